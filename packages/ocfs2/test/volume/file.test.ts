import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { flushTruncateLog } from '../../src/alloc/index.js';
import type { FsContext } from '../../src/context.js';
import { checkTree, dinodeTree } from '../../src/extents/index.js';
import { DYN } from '../../src/format/index.js';
import { PR } from '../../src/locking/levels.js';
import {
  fallocate, fileExtents, fileStatus, flushAllTimes, readFile, seekData, seekHole, truncateFile, writeFile,
} from '../../src/volume/index.js';
import { seed } from '../../../../test/support/temp.js';
import { openTestContext } from '../support/context.js';
import { makeFile } from '../support/files.js';
import { variants } from '../support/locks.js';
import { GEOMETRIES, type NamedVolume, expectFsckClean, makeVolume } from '../support/volume.js';

const PLAIN: NamedVolume = { name: '4K/4K max-compat (not sparse)', size: 300 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '2', '-J', 'size=4M', '--fs-feature-level=max-compat'] };
const VOLUMES = [...GEOMETRIES, PLAIN];

type Command =
  | { kind: 'write' | 'append'; at: number; length: number; fill: number }
  | { kind: 'truncate'; at: number }
  | { kind: 'reserve' | 'punch' | 'zero'; at: number; length: number; keep: boolean }
  | { kind: 'read'; at: number; length: number };

/** Positions near cluster and block edges, everywhere else, and aligned ones. */
function commands(limit: number, cluster: number): fc.Arbitrary<Command[]> {
  const place = fc.oneof(
    fc.nat(limit), fc.nat(Math.floor(limit / cluster)).map((n) => n * cluster), fc.nat(Math.floor(limit / 512)).map((n) => n * 512),
    fc.tuple(fc.nat(Math.floor(limit / cluster)), fc.integer({ min: -3, max: 3 })).map(([n, d]) => Math.max(0, n * cluster + d)), fc.nat(400),
  );
  const length = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 3 * Math.min(cluster, 65536) }), fc.constantFrom(512, 4096, cluster, 2 * cluster));
  return fc.array(fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constantFrom('write' as const, 'append' as const), at: place, length, fill: fc.integer({ min: 1, max: 255 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), at: place }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('reserve' as const, 'punch' as const, 'zero' as const), at: place, length, keep: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), at: place, length }) },
  ), { minLength: 30, maxLength: 60 });
}

/** The file as it should read. */
class Model {
  bytes = new Uint8Array(0);

  resize(size: number): void {
    const next = new Uint8Array(size);
    next.set(this.bytes.subarray(0, size));
    this.bytes = next;
  }
  write(at: number, data: Uint8Array): void {
    if (at + data.length > this.bytes.length) this.resize(at + data.length);
    this.bytes.set(data, at);
  }
  zero(at: number, length: number): void {
    this.bytes.fill(0, Math.min(at, this.bytes.length), Math.min(at + length, this.bytes.length));
  }
}

/** Bytes that differ from place to place and from write to write. */
function pattern(at: number, length: number, fill: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => ((at + i) * 31 + fill * 17 + ((at + i) >> 8)) & 0xff || fill);
}

async function content(ctx: FsContext, ino: number): Promise<Uint8Array> {
  const size = await ctx.engine.read('size', (op) => ctx.inode(op, ino, PR).di.size);
  const bytes = new Uint8Array(size + 10).fill(0xee);
  expect(await readFile(ctx, ino, 0, bytes)).toBe(size);
  return bytes.subarray(0, size);
}

function expectEqual(got: Uint8Array, want: Uint8Array, what: string): void {
  if (Buffer.compare(got, want) === 0) return;
  const at = got.findIndex((b, i) => b !== want[i]);
  throw new Error(`${what}: ${got.length} bytes, expected ${want.length}; byte ${at} is ${got[at]}, not ${want[at]}`);
}

async function apply(ctx: FsContext, ino: number, model: Model, c: Command): Promise<void> {
  const unwritten = ctx.geo.unwritten && ctx.geo.sparse;
  switch (c.kind) {
    case 'write':
    case 'append': {
      const at = c.kind === 'append' ? model.bytes.length : c.at;
      const data = pattern(at, c.length, c.fill);
      expect(await writeFile(ctx, ino, c.kind === 'append' ? 'append' : c.at, data, { behind: c.fill % 2 === 0 })).toBe(at);
      model.write(at, data);
      return;
    }
    case 'truncate':
      await truncateFile(ctx, ino, c.at);
      model.resize(c.at);
      return;
    case 'reserve':
    case 'punch':
    case 'zero': {
      const done = fallocate(ctx, ino, c.kind, c.at, c.length, c.keep);
      if (!unwritten) return expect(done).rejects.toMatchObject({ errno: 'EOPNOTSUPP' });
      await done;
      if (c.kind !== 'reserve') model.zero(c.at, c.length);
      if (c.kind !== 'punch' && !c.keep && c.at + c.length > model.bytes.length) model.resize(c.at + c.length);
      return;
    }
    case 'read': {
      const into = new Uint8Array(c.length).fill(0xee);
      const n = await readFile(ctx, ino, c.at, into);
      expectEqual(into.subarray(0, n), model.bytes.subarray(c.at, c.at + c.length), 'read');
    }
  }
}

/** Tree, status, seek and extents agree with each other and with the model. */
async function expectSound(ctx: FsContext, ino: number, model: Model): Promise<void> {
  expectEqual(await content(ctx, ino), model.bytes, 'content');
  const inline = await ctx.engine.read('tree', (op) => {
    const ref = ctx.inode(op, ino, PR);
    if (ref.di.dynFeatures & DYN.INLINE_DATA) return true;
    expect(checkTree(op, dinodeTree(ref, op, ctx))).toEqual([]);
    return false;
  });
  const size = model.bytes.length;
  const status = await fileStatus(ctx, ino, 0, size + 5, 1e6);
  expect(status.reduce((at, s) => (s.offset === at ? at + s.length : Number.NaN), 0)).toBe(size);
  for (const s of status) if (s.kind !== 'data') expect(model.bytes.subarray(s.offset, s.offset + s.length).every((b) => b === 0)).toBe(true);
  for (const [i, s] of status.entries()) {
    if (s.kind === 'data') expect(await seekData(ctx, ino, s.offset)).toBe(s.offset);
    else expect(await seekHole(ctx, ino, s.offset)).toBe(s.offset);
    if (s.kind === 'data' && !inline) expect(await seekHole(ctx, ino, s.offset)).toBe(status[i + 1]?.offset ?? size);
  }
  const extents = await fileExtents(ctx, ino, 0, 1e6);
  if (!inline) {
    const data = status.filter((s) => s.kind === 'data').reduce((sum, s) => sum + s.length, 0);
    expect(extents.filter((e) => !e.unwritten).reduce((sum, e) => sum + Math.max(0, Math.min(e.length, size - e.offset)), 0)).toBe(data);
  }
}

describe.each(variants(VOLUMES))('files, $name', (spec) => {
  test('random operations agree with a model, fsck is clean', async () => {
    const big = spec.name === '4K/1M';
    let hostile = false;
    const property = fc.asyncProperty(commands(big ? 6 << 20 : 150_000, big ? 1 << 20 : 4096), async (list) => {
      const device = await makeVolume(spec);
      // In turn: a small cache that makes operations start again, and a journal with locks demanded back all the time.
      const ctx = await openTestContext(device, hostile ? { hostile, journal: true } : { cacheBlocks: 100 });
      hostile = !hostile;
      const ino = await makeFile(ctx, 'file');
      const model = new Model();
      for (const [i, c] of list.entries()) {
        await apply(ctx, ino, model, c);
        if (i % 8 === 0) await expectSound(ctx, ino, model);
      }
      await expectSound(ctx, ino, model);
      await flushAllTimes(ctx);
      await ctx.engine.log.flush();
      // Kept beyond i_size is legal for the kernel and reported by fsck all the same (ondisk-format.md, trap 33).
      await expectFsckClean(device, ['INODE_SPARSE_SIZE']);
      expectEqual(await content(await openTestContext(device), ino), model.bytes, 'content from disk');
      await truncateFile(ctx, ino, 0);
      await ctx.engine.log.flush();
      await flushTruncateLog(ctx);
      await ctx.engine.log.flush();
      await expectFsckClean(device);
    });
    await fc.assert(property, { seed: seed(`files ${spec.name}`), numRuns: big ? 2 : 3, endOnFailure: true });
  }, 60_000);
});
