/** The one place that rolls real dice: seeds. */
import { randomInt } from 'node:crypto';

/** A seed nobody has asked for. */
export function freshSeed(): number {
  return randomInt(2 ** 32);
}
