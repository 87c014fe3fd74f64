/** Randomness of lunfsd. */
import { randomBytes } from 'node:crypto';
import { TOKEN_BYTES } from '../cluster/fence-protocol.js';

/** What nobody else can know: hexadecimal, as long as a token is. */
export function randomToken(): string {
  return randomBytes(TOKEN_BYTES / 2).toString('hex');
}

/** 64 random bits: a generation of the heartbeat. */
export function randomGeneration(): bigint {
  return randomBytes(8).readBigUInt64LE();
}
