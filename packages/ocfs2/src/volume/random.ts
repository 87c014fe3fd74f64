/** The real dice (docs/design.md, rule 5: only modules of this name may roll them). */
import { randomBytes } from 'node:crypto';
import type { Random } from '../context.js';

export const systemRandom: Random = { u32: () => randomBytes(4).readUInt32LE() };
