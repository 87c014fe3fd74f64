/** The identities of ondisk-format.md 4.2, checked on every allocator of a volume as the engine sees it. */
import { expect } from 'vitest';
import { chainGroups, readAllocator } from '../../src/alloc/chain.js';
import type { FsContext } from '../../src/context.js';
import { BitmapId1, bits, GROUP_BITMAP, LOCAL_ALLOC_BITMAP, LocalAlloc } from '../../src/format/index.js';
import { PR } from '../../src/locking/levels.js';

/** Walks every chain of every allocator; fails on the first sum that is wrong. Returns used bits by allocator. */
export async function checkAllocators(ctx: FsContext): Promise<Map<number, number>> {
  const used = new Map<number, number>();
  const { sys } = ctx;
  for (const blkno of [sys.globalBitmap, sys.globalInodeAlloc, ...sys.inodeAlloc, ...sys.extentAlloc]) {
    await ctx.engine.read('check allocator', (op) => {
      const alloc = readAllocator(op, ctx, blkno, PR);
      const { list, ref } = alloc;
      let total = 0, free = 0;
      for (let chain = 0; chain < list.nextFree; chain++) {
        let chainTotal = 0, chainFree = 0;
        for (const { gd, block } of chainGroups(op, alloc, chain)) {
          chainTotal += gd.bits;
          chainFree += gd.freeBits;
          expect(gd.bits - bits.count(block.bytes, GROUP_BITMAP, gd.bits), `free bits of group ${gd.blkno}`).toBe(gd.freeBits);
        }
        expect([list.total(chain), list.free(chain)], `chain ${chain} of ${blkno}`).toEqual([chainTotal, chainFree]);
        total += chainTotal;
        free += chainFree;
      }
      expect([alloc.total, alloc.used], `dinode ${blkno}`).toEqual([total, total - free]);
      expect(ref.di.size).toBe(ref.di.clusters * ctx.geo.clusterSize);
      used.set(blkno, total - free);
    });
  }
  await ctx.engine.read('check window', (op) => {
    const { block } = ctx.inode(op, sys.localAlloc[ctx.slot], PR);
    const id1 = BitmapId1.at(block), la = LocalAlloc.at(block);
    expect(bits.count(block.bytes, LOCAL_ALLOC_BITMAP, la.size * 8)).toBe(id1.used);
    if (id1.total === 0) expect([id1.used, la.bmOff]).toEqual([0, 0]);
  });
  return used;
}
