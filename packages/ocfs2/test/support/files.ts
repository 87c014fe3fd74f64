/** Bare files for tests below the namespace: an empty regular file, entered in the root directory by hand. */
import { claimMeta } from '../../src/alloc/index.js';
import type { FsContext } from '../../src/context.js';
import {
  DIR_BLOCK, DIR_BLOCK_PLAIN, DIR_TRAILER_SIZE, DINODE, DYN, Dinode, ExtentList, FL, FT, ID2, INLINE_DATA_START, MODE, SIG, capacity,
} from '../../src/format/index.js';
import { EX } from '../../src/locking/levels.js';

/** Create an empty regular file in the root directory; returns its inode number. */
export async function makeFile(ctx: FsContext, name: string): Promise<number> {
  const { geo } = ctx;
  return ctx.engine.run('make a file', (op) => {
    const root = ctx.editInode(op, geo.rootBlkno);
    const claim = claimMeta(op, ctx, 'inode');
    const block = op.create(ctx.metaLock(op, claim.blkno, EX), claim.blkno, DINODE);
    Object.assign(Dinode.at(block), {
      signature: SIG.dinode, generation: ctx.random.u32(), suballocSlot: claim.slot, suballocBit: claim.bit, suballocLoc: claim.loc, mode: MODE.REG | 0o644,
      links: 1, flags: FL.VALID, blkno: claim.blkno, fsGeneration: geo.fsGeneration, atime: op.now.sec, ctime: op.now.sec, mtime: op.now.sec,
    });
    new ExtentList(block, ID2).count = capacity.dinodeExtents(geo.blockSize);
    const trailer = geo.metaecc || (root.di.dynFeatures & DYN.INDEXED_DIR) !== 0;
    const inline = (root.di.dynFeatures & DYN.INLINE_DATA) !== 0;
    const dir = inline ? root.block : op.write(root.lock, new ExtentList(root.block, ID2).blkno(0), trailer ? DIR_BLOCK : DIR_BLOCK_PLAIN);
    const start = inline ? INLINE_DATA_START : 0;
    addEntry(dir.dv, start, inline ? start + root.di.size : geo.blockSize - (trailer ? DIR_TRAILER_SIZE : 0), name, claim.blkno);
    return claim.blkno;
  });
}

/** Put an entry into the first gap of a run of directory entries. */
function addEntry(dv: DataView, from: number, to: number, name: string, inode: number): void {
  const bytes = new TextEncoder().encode(name);
  const size = (nameLen: number) => (12 + nameLen + 3) & ~3;
  for (let at = from; at < to; ) {
    const recLen = dv.getUint16(at + 8, true), own = size(dv.getUint8(at + 10));
    if (recLen - own >= size(bytes.length)) {
      dv.setUint16(at + 8, own, true);
      const entry = at + own;
      dv.setBigUint64(entry, BigInt(inode), true);
      dv.setUint16(entry + 8, recLen - own, true);
      dv.setUint8(entry + 10, bytes.length);
      dv.setUint8(entry + 11, FT.REG);
      for (let i = 0; i < bytes.length; i++) dv.setUint8(entry + 12 + i, bytes[i]);
      return;
    }
    at += recLen;
  }
  throw new Error('no room in the root directory');
}
