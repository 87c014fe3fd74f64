/** Schemas that several operations share. */
import { Type } from 'typebox';

export const Id = Type.String({ format: 'uuid' });
export const ById = Type.Object({ id: Id });
export const Time = Type.String({ description: 'ISO 8601, UTC.' });
export const Name = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', description: 'Letters, digits, ".", "_" and "-"; at most 63.' });
export const Nothing = Type.Object({}, { additionalProperties: false });

/** Objects of requests take no properties but their own: a misspelt one is told, not ignored. */
export const STRICT = { additionalProperties: false } as const;

export const Limit = Type.Integer({ minimum: 1, maximum: 1000, default: 100 });
