/** Volumes that Linux filled: all trees keep our invariants, all files read as Linux said. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { FIXTURES, type Fixture, readManifest, unpackFixture } from '../../../../test/support/fixtures.js';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import type { FsContext } from '../../src/context.js';
import { type TreeRoot, checkTree, dinodeTree, dxTree, lookup, refcountTree, walk, xattrTree } from '../../src/extents/index.js';
import {
  DX_INLINE, DX_ROOT, DYN, DxRoot, EXT, REFCOUNT_BLOCK, REFCOUNT_TREE, RefcountBlock, XATTR_BLOCK, XATTR_INDEXED, XattrBlock,
} from '../../src/format/index.js';
import { PR, RANK, lockName } from '../../src/locking/levels.js';
import type { Op } from '../../src/txn/index.js';
import { fileExtents, fileStatus, readFile } from '../../src/volume/index.js';
import { openTestContext } from '../support/context.js';
import { loadSparse } from '../support/volume.js';

async function open(name: Fixture): Promise<FsContext> {
  const cleanup = new Cleanup();
  try {
    return await openTestContext(await loadSparse(await unpackFixture(name, tempDir(cleanup))), { cacheBlocks: 300 });
  } finally {
    await cleanup.run();
  }
}

/** All trees of an inode, by kind. */
function trees(op: Op, ctx: FsContext, ino: number): Record<string, TreeRoot> {
  const ref = ctx.inode(op, ino, PR);
  const { di, lock } = ref;
  const out: Record<string, TreeRoot> = {};
  if (!(di.dynFeatures & DYN.INLINE_DATA) && [0o100000, 0o040000].includes(di.mode & 0o170000)) out.data = dinodeTree(ref, op, ctx);
  if (di.dynFeatures & DYN.INDEXED_DIR && !(DxRoot.at(op.read(lock, di.dxRoot, DX_ROOT)).flags & DX_INLINE)) out.index = dxTree(lock, di.dxRoot, op, ctx);
  if (di.xattrLoc !== 0 && XattrBlock.at(op.read(lock, di.xattrLoc, XATTR_BLOCK)).flags & XATTR_INDEXED) out.xattr = xattrTree(lock, di.xattrLoc, op, ctx);
  if (di.dynFeatures & DYN.HAS_REFCOUNT) {
    const shared = op.lock(lockName('T', di.refcountLoc, 0), PR, RANK.refcount);
    if (RefcountBlock.at(op.read(shared, di.refcountLoc, REFCOUNT_BLOCK)).flags & REFCOUNT_TREE) out.refcount = refcountTree(shared, di.refcountLoc, op, ctx);
  }
  return out;
}

const seen: Record<string, number> = {};

describe.each(FIXTURES.filter((f) => f !== 'crash'))('fixture %s', (name) => {
  test('trees and contents', { timeout: 60_000 }, async () => {
    const ctx = await open(name);
    for (const [path, { type, inode, size, sha256 }] of readManifest(name).entries) {
      const records = await ctx.engine.read('trees', (op) => {
        const all = trees(op, ctx, inode);
        for (const [kind, tree] of Object.entries(all)) {
          expect(checkTree(op, tree), `${path}: ${kind}`).toEqual([]);
          for (const rec of walk(op, tree)) expect(lookup(op, tree, rec.cpos + rec.clusters - 1)).toEqual(rec);
        }
        return Object.keys(all).map((kind) => [kind, all[kind].list().depth] as const);
      });
      for (const [kind, depth] of records) seen[kind] = Math.max(seen[kind] ?? 0, depth);
      if (type !== 'file') continue;
      const bytes = new Uint8Array(size);
      // In pieces that fit nothing, over the whole file.
      for (let at = 0; at < size; at += 77_777) expect(await readFile(ctx, inode, at, bytes.subarray(at, at + 77_777))).toBe(Math.min(77_777, size - at));
      expect(createHash('sha256').update(bytes).digest('hex'), path).toBe(sha256);
      const status = await fileStatus(ctx, inode, 0, size, 1e6);
      for (const s of status) if (s.kind !== 'data') expect(bytes.subarray(s.offset, s.offset + s.length).every((b) => b === 0), path).toBe(true);
      const extents = await fileExtents(ctx, inode, 0, 1e6);
      expect(extents.some((e) => e.shared)).toBe(await ctx.engine.read('shared', (op) => {
        const tree = trees(op, ctx, inode).data;
        return tree !== undefined && [...walk(op, tree)].some((r) => (r.flags & EXT.REFCOUNTED) !== 0);
      }));
    }
  });
});

test('the fixtures have trees of every kind, and deep ones', () => {
  expect(Object.keys(seen).sort()).toEqual(expect.arrayContaining(['data', 'index', 'xattr']));
  expect(seen.data).toBeGreaterThanOrEqual(1);
});
