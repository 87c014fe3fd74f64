/** Hashes of names: directory index (TEA) and extended attributes (ondisk-format.md 6.7, 7.2). Bytes are sign-extended. */

export interface DxHash {
  major: number;
  minor: number;
}

function signed(byte: number): number {
  return (byte << 24) >> 24;
}

/** The words of one round; nothing is kept in it between calls. */
const INPUT = new Int32Array(4);

/** Hash of a directory entry name (`Linux 6.1 fs/ocfs2/dir.c:ocfs2_dx_dir_name_hash`). `.` and `..` hash to 0/0. */
export function dirHash(name: Uint8Array, seed0: number, seed1: number, unsignedChars = false): DxHash {
  const n = name.length;
  if ((n === 1 && name[0] === 0x2e) || (n === 2 && name[0] === 0x2e && name[1] === 0x2e)) return { major: 0, minor: 0 };
  let b0 = seed0 | 0, b1 = seed1 | 0;
  const input = INPUT;
  for (let p = 0, left = n; left > 0; p += 16, left -= 16) {
    // The pad is made from the length that remains, not from the chunk's (trap 20).
    let pad = left | (left << 8);
    pad |= pad << 16;
    let val = pad, out = 0;
    const take = Math.min(left, 16);
    for (let i = 0; i < take; i++) {
      if ((i & 3) === 0) val = pad;
      val = ((unsignedChars ? name[p + i] : signed(name[p + i])) + (val << 8)) | 0;
      if ((i & 3) === 3) {
        input[out++] = val;
        val = pad;
      }
    }
    if (out < 4) input[out++] = val;
    while (out < 4) input[out++] = pad;
    let sum = 0, x0 = b0, x1 = b1;
    for (let r = 0; r < 16; r++) {
      sum = (sum + 0x9e3779b9) | 0;
      x0 = (x0 + ((((x1 << 4) + input[0]) | 0) ^ ((x1 + sum) | 0) ^ (((x1 >>> 5) + input[1]) | 0))) | 0;
      x1 = (x1 + ((((x0 << 4) + input[2]) | 0) ^ ((x0 + sum) | 0) ^ (((x0 >>> 5) + input[3]) | 0))) | 0;
    }
    b0 = (b0 + x0) | 0;
    b1 = (b1 + x1) | 0;
  }
  return { major: b0 >>> 0, minor: b1 >>> 0 };
}

/** Hash of an attribute name without its prefix (`Linux 6.1 fs/ocfs2/xattr.c:ocfs2_xattr_name_hash`). */
export function xattrHash(name: Uint8Array, uuidHash: number): number {
  let h = uuidHash | 0;
  for (let i = 0; i < name.length; i++) h = (h << 5) ^ (h >>> 27) ^ signed(name[i]);
  return h >>> 0;
}

/** s_uuid_hash: the same loop from 0 over the 16 bytes, unsigned (ondisk-format.md 7.2). */
export function uuidHash(uuid: Uint8Array): number {
  let h = 0;
  for (let i = 0; i < uuid.length; i++) h = (h << 5) ^ (h >>> 27) ^ uuid[i];
  return h >>> 0;
}
