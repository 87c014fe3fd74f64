/** Randomness of the control plane. */
import { randomBytes, randomUUID } from 'node:crypto';

/** Identity of a row. */
export function newId(): string {
  return randomUUID();
}

/** What nobody can guess: 256 bits, as text that fits into URLs and shells. */
export function newSecret(): string {
  return randomBytes(32).toString('base64url');
}

/** For a certificate: 127 random bits, in hexadecimal, positive. */
export function newSerialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] &= 0x7f;
  bytes[0] |= 0x40;
  return bytes.toString('hex');
}
