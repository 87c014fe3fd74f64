/**
 * Metadata checksums (ondisk-format.md 8; Linux 6.1 fs/ocfs2/blockcheck.c): CRC-32 with initial value all ones and no
 * final inversion, and a 16-bit Hamming parity that can mend one flipped bit. Both over the block in on-disk form with
 * the 8 check bytes zeroed.
 */
import { crc32 } from 'node:zlib';
import { InternalError } from '@lunfs/device';

const CHECK_SIZE = 8;
const ZERO_CHECK = new Uint8Array(CHECK_SIZE);

/** Code-bit number of each data bit, for blocks up to 4096 bytes: positions counted from 1, powers of two skipped. */
const CODE_BITS = (() => {
  const table = new Uint16Array(4096 * 8);
  let p = 0;
  for (let i = 0; i < table.length; i++) {
    let b = i + 1 + p;
    while (1 << p < b + 1) {
      b++;
      p++;
    }
    table[i] = b;
  }
  return table;
})();

/** XOR of the code-bit numbers of a byte's set bits depends on its position: precomputed per position and nibble. */
const NIBBLES = (() => {
  const table = new Uint16Array(4096 * 2 * 16);
  for (let n = 0; n < 4096 * 2; n++) {
    for (let v = 1; v < 16; v++) {
      const low = v & -v;
      table[n * 16 + v] = table[n * 16 + (v ^ low)] ^ CODE_BITS[n * 4 + (31 - Math.clz32(low))];
    }
  }
  return table;
})();

/** CRC of `bytes` with the 8 bytes at `checkAt` taken as zero (`checkAt` -1: nothing left out). */
export function blockCrc(bytes: Uint8Array, checkAt: number): number {
  if (checkAt < 0) return (crc32(bytes) ^ 0xffffffff) >>> 0;
  let c = crc32(bytes.subarray(0, checkAt));
  c = crc32(ZERO_CHECK, c);
  c = crc32(bytes.subarray(checkAt + CHECK_SIZE), c);
  return (c ^ 0xffffffff) >>> 0;
}

/** Hamming parity of `bytes` (at most 4096) with the 8 bytes at `checkAt` taken as zero. */
export function blockEcc(bytes: Uint8Array, checkAt: number): number {
  let ecc = 0;
  const n = bytes.length;
  if (n > 4096) throw new InternalError('ECC_RANGE', `parity over ${n} bytes`);
  for (let i = 0; i < n; i++) {
    const v = bytes[i];
    if (v !== 0 && (i < checkAt || i >= checkAt + CHECK_SIZE || checkAt < 0)) ecc ^= NIBBLES[i * 32 + (v & 15)] ^ NIBBLES[i * 32 + 16 + (v >>> 4)];
  }
  return ecc;
}

/** Write the check of a block into its own bytes at `checkAt`. */
export function stampCheck(bytes: Uint8Array, checkAt: number): void {
  const crc = blockCrc(bytes, checkAt);
  const ecc = blockEcc(bytes, checkAt);
  const dv = new DataView(bytes.buffer, bytes.byteOffset + checkAt, CHECK_SIZE);
  dv.setUint32(0, crc, true);
  dv.setUint16(4, ecc, true);
  dv.setUint16(6, 0, true);
}

export type CheckResult = 'ok' | 'fixed' | 'bad';

/** Validate; a single flipped bit is mended in `bytes` ('fixed'), as the kernel does. */
export function verifyCheck(bytes: Uint8Array, checkAt: number): CheckResult {
  const dv = new DataView(bytes.buffer, bytes.byteOffset + checkAt, CHECK_SIZE);
  const crc = dv.getUint32(0, true);
  if (blockCrc(bytes, checkAt) === crc) return 'ok';
  const syndrome = blockEcc(bytes, checkAt) ^ dv.getUint16(4, true);
  if (syndrome === 0 || (syndrome & (syndrome - 1)) === 0) return 'bad';
  const bit = CODE_BITS.indexOf(syndrome);
  if (bit < 0 || bit >= bytes.length * 8 || (bit >> 3 >= checkAt && bit >> 3 < checkAt + CHECK_SIZE)) return 'bad';
  bytes[bit >> 3] ^= 1 << (bit & 7);
  if (blockCrc(bytes, checkAt) === crc) return 'fixed';
  bytes[bit >> 3] ^= 1 << (bit & 7);
  return 'bad';
}

/** The heartbeat's CRC-32: initial value 0, no final inversion (ondisk-format.md 10.2). */
export function heartbeatCrc(bytes: Uint8Array): number {
  return (crc32(bytes, 0xffffffff) ^ 0xffffffff) >>> 0;
}
