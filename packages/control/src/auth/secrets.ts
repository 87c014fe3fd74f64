/** Passwords, and tokens of the form `lunfs_ID_SECRET`: the id finds the row, the secret is compared by its hash. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { hash, verify } from '@node-rs/argon2';
import { newSecret } from '../random.js';

export interface NewToken {
  readonly text: string;
  readonly hash: string;
}

const SHAPE = /^lunfs_([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})_([A-Za-z0-9_-]{43})$/;

/** argon2id with the library's defaults (19 MiB, 2 passes: OWASP's), in libuv's pool. */
export function hashPassword(password: string): Promise<string> {
  return hash(password);
}

export function passwordFits(stored: string, password: string): Promise<boolean> {
  return verify(stored, password);
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export function makeToken(id: string): NewToken {
  const secret = newSecret();
  return { text: `lunfs_${id}_${secret}`, hash: sha256(secret) };
}

/** Undefined: not the shape of a token. */
export function readToken(text: string): { readonly id: string; readonly secret: string } | undefined {
  const [, id, secret] = SHAPE.exec(text) ?? [];
  return id === undefined ? undefined : { id, secret };
}

/** In a time that does not depend on where they differ. */
export function secretFits(stored: string, secret: string): boolean {
  return timingSafeEqual(Buffer.from(stored, 'hex'), Buffer.from(sha256(secret), 'hex'));
}
