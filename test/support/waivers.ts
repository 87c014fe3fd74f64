/**
 * What Linux 6.1 leaves that is not right, or that fsck.ocfs2 1.8.7 takes for wrong, waived only on volumes that Linux had. A bucket of attributes whose lowest was removed keeps its
 * mark of where free space begins (xattr.c:ocfs2_xa_bucket_wipe_namevalue counts only the bytes), which costs room and no more. Ours are
 * written with the true mark; so a wrong one is Linux's only in a bucket whose entries lie as Linux left them, wherever it has moved since.
 * Whether a removal meets the lowest depends on the hashes of names, thus on the volume's UUID. An empty record at the front of a leaf is
 * zeros, which fsck.ocfs2 takes for a block number.
 */
import fs from 'node:fs';
import { Block, XATTR_BUCKET_SIZE, XattrEntry, XattrHeader } from '@lunfs/ocfs2';
import type { FsckFinding } from './ocfs2-tools.js';

const FREE_START = 'XATTR_FREE_START_INVALID';

interface Found {
  readonly code: string;
  readonly block?: number;
}

/** How entries lie in the bucket at a block, and where its header says that they begin. */
function placement(image: string, blockSize: number, blkno: number): string {
  const bytes = Buffer.alloc(XATTR_BUCKET_SIZE);
  const file = fs.openSync(image, 'r');
  try {
    fs.readSync(file, bytes, 0, bytes.length, blkno * blockSize);
  } finally {
    fs.closeSync(file);
  }
  const { count, freeStart } = XattrHeader.at(new Block(image, blkno, bytes));
  return `${freeStart} ${bytes.toString('hex', XattrHeader.size, XattrHeader.size + count * XattrEntry.size)}`;
}

export class Waivers {
  /** Placements with a wrong mark, as Linux left them. */
  readonly #linux = new Set<string>();

  constructor(private readonly image: string, private readonly blockSize: number) {}

  /** The verifier's findings right after Linux had a volume in which no mark was wrong. */
  learn(findings: readonly Found[]): void {
    for (const { code, block } of findings) if (code === FREE_START && block !== undefined) this.#linux.add(placement(this.image, this.blockSize, block));
  }

  /** Is it what Linux left, and nobody wrote since? */
  waives({ code, block }: Found): boolean {
    return code === FREE_START && block !== undefined && this.#linux.has(placement(this.image, this.blockSize, block));
  }

  /** As `waives`, of what fsck.ocfs2 says. */
  waivesFsck({ code, text }: FsckFinding): boolean {
    if (code === 'EXTENT_BLKNO_RANGE' && text.startsWith('Extent record 0 ')) return true;
    const bucket = /^Extended attribute in bucket #(\d+) /.exec(text);
    return bucket !== null && this.waives({ code, block: Number(bucket[1]) });
  }
}
