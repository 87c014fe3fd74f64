import { CorruptionError } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { dirAdd, dirEntries, dirLookup, dirRemove } from '../../src/dir/index.js';
import {
  DX_INLINE, DX_LEAF, DX_LEAF_LIST, DX_ROOT, DX_ROOT_LIST, DYN, Dinode, DxEntryList, DxRoot, FT, type Geometry, INLINE_DATA_START, dirHash,
} from '../../src/format/index.js';

import type { FsContext } from '../../src/context.js';
import { EX, PR } from '../../src/locking/levels.js';
import type { Op } from '../../src/txn/index.js';
import { Names, PLAIN, DIR, bytes, settle, text } from '../volume/support.js';
import { HOSTILE, variants } from '../support/locks.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';
import { randomFrom, seed } from '../../../../test/support/temp.js';

/** Names of which several pairs have the same major hash (about n²/2³³ of them). */
function collidingNames(geo: Geometry, n: number): string[] {
  const seen = new Map<number, string>();
  const pairs: string[] = [];
  for (let i = 0; i < n; i++) {
    const name = `c${i}`;
    const { major } = dirHash(bytes(name), geo.dxSeed[0], geo.dxSeed[1]);
    const other = seen.get(major);
    if (other !== undefined) pairs.push(other, name);
    else seen.set(major, name);
  }
  return pairs;
}

function randomName(random: () => number, i: number): string {
  const alphabet = ['a', 'B', '7', '-', ' ', 'ß', '€', '字', '😀'];
  const length = Math.floor(random() ** 3 * 60);
  return `${i}${Array.from({ length }, () => alphabet[Math.floor(random() * alphabet.length)]).join('')}`;
}

describe.each(variants([...GEOMETRIES.slice(0, 4), PLAIN]))('large directories on $name', (spec) => {
  // Without an index every name costs a walk over all blocks, for the kernel as for us.
  const count = spec.name === 'plain' ? 1500 : HOSTILE ? 4000 : 20_000;

  test(`${count} names come, go in part, and come again`, { timeout: 180_000 }, async () => {
    const random = randomFrom(seed(`directory ${spec.name}`));
    const device = await makeVolume({ ...spec, size: spec.size + (200 << 20) });
    const { ctx, ns } = await Names.open(device);
    const names = [...new Set([...collidingNames(ctx.geo, spec.name === 'plain' ? 0 : 400_000), ...Array.from({ length: count }, (_, i) => randomName(random, i))])];
    const dir = (await ns.create(ns.root, bytes('dir'), DIR)).blkno;
    const target = { blkno: (await ns.create(ns.root, bytes('file'), { mode: 0o100644, uid: 0, gid: 0 })).blkno, type: FT.REG };
    const change = (list: string[], add: boolean) => inBatches(list, 50, (part) => ctx.engine.run('change', (op) => {
      for (const name of part) {
        if (add) dirAdd(op, ctx, ctx.inode(op, dir, EX), bytes(name), target);
        else expect(dirRemove(op, ctx, ctx.inode(op, dir, EX), bytes(name))).toEqual(target);
      }
      // The file's links follow, so that fsck can agree.
      const file = ctx.editInode(op, target.blkno);
      file.di.links += add ? part.length : -part.length;
    }));
    const present = () => ctx.engine.read('list', (op) => dirEntries(op, ctx, ctx.inode(op, dir, PR), 0, 1e9).entries.slice(2).map((e) => text(e.name)).sort());
    const has = (name: string) => ctx.engine.read('lookup', (op) => dirLookup(op, ctx, ctx.inode(op, dir, PR), bytes(name)) !== undefined);

    await change(names, true);
    expect(await present()).toEqual([...names].sort());
    for (const name of names.slice(0, 3000)) expect(await has(name)).toBe(true);
    const gone = names.filter(() => random() < 0.6);
    await change(gone, false);
    await ctx.engine.log.flush();
    const left = new Set(names);
    for (const name of gone) left.delete(name);
    expect(await present()).toEqual([...left].sort());
    for (const name of gone.slice(0, 1000)) expect(await has(name)).toBe(false);
    await expectFsckClean(device);
    const size = (await ns.attributes(dir)).size;
    const again = gone.filter(() => random() < 0.5);
    await change(again, true);
    // What became free is used again before the directory grows.
    expect((await ns.attributes(dir)).size).toBeLessThanOrEqual(size);
    await ctx.engine.log.flush();
    expect(await present()).toEqual([...left, ...again].sort());
    await expectFsckClean(device);
    await change([...left, ...again], false);
    await ns.forget(dir);
    await ns.rmdir(ns.root, bytes('dir'));
    await ctx.engine.log.flush();
    await settle(device);
    await expectFsckClean(device);
  });
});

async function inBatches<T>(list: T[], size: number, work: (part: T[]) => Promise<void>): Promise<void> {
  for (let i = 0; i < list.length; i += size) await work(list.slice(i, i + size));
}

describe('positions', () => {
  test.each([GEOMETRIES[0], GEOMETRIES[3]])('stay good while names come and go, $name', async (spec) => {
    const random = randomFrom(seed(`positions ${spec.name}`));
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const dir = (await fs.create(fs.ns.root, 'dir', DIR)).blkno;
    const stay = Array.from({ length: 60 }, (_, i) => `stay-${i}`);
    for (const name of stay) await fs.create(dir, name);
    const seen: string[] = [];
    let extra = 0;
    const extras: string[] = [];
    for (let position = 0, end = false; !end; ) {
      const part = await fs.ns.readdir(dir, position, 1 + Math.floor(random() * 4));
      seen.push(...part.entries.map((e) => text(e.name)));
      position = part.entries.at(-1)?.next ?? position;
      end = part.end;
      for (let i = 0; i < 30; i++) {
        if (extra < 600 && (random() < 0.55 || extras.length === 0)) {
          extras.push(`x${extra++}-${'y'.repeat(random() * 40)}`);
          await fs.create(dir, extras[extras.length - 1]);
        } else if (extras.length > 0) await fs.ns.unlink(dir, bytes(extras.splice(Math.floor(random() * extras.length), 1)[0]));
      }
    }
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.filter((name) => name.startsWith('stay')).sort()).toEqual([...stay].sort());
    expect(seen.slice(0, 2)).toEqual(['.', '..']);
  });
});

describe('damage', () => {
  /** A directory with a few names, its index in the root block. */
  async function directory(count = 150) {
    const device = await makeVolume(GEOMETRIES[0]);
    const fs = await Names.open(device);
    const dir = (await fs.create(fs.ns.root, 'dir', DIR)).blkno;
    for (let i = 0; i < count; i++) await fs.create(dir, `a-rather-long-name-${i}`);
    const di = await fs.ctx.engine.read('look', (op) => Dinode.at(fs.ctx.inode(op, dir, PR).block));
    return { fs, dir, di };
  }

  test.each([
    ['no length', 8, 0], ['a length that is odd', 8, 17], ['a length beyond the area', 8, 0xfff0], ['a name longer than its entry', 10, 255],
    ['an end too near to the end of the area', 8, 3896 - 32 - 8],
  ])('an entry with %s is named by block and byte', async (_, at, value) => {
    const { fs, dir } = await directory(3);
    await fs.ctx.engine.run('damage', (op) => {
      const { dv, bytes: raw } = fs.ctx.editInode(op, dir).block;
      if (at === 10) raw[INLINE_DATA_START + 32 + at] = value;
      else dv.setUint16(INLINE_DATA_START + 32 + at, value, true);
    });
    const error = await fs.list(dir).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CorruptionError);
    expect((error as Error).message).toContain(`block ${dir}: dir_entry at byte ${INLINE_DATA_START + 32}`);
    await expect(fs.create(dir, 'new')).rejects.toThrow(CorruptionError);
    await expect(fs.lookup(dir, 'a-rather-long-name-2')).rejects.toThrow(CorruptionError);
  });

  test('an entry for an inode outside the volume', async () => {
    const { fs, dir } = await directory(3);
    await fs.ctx.engine.run('damage', (op) => fs.ctx.editInode(op, dir).block.dv.setUint32(INLINE_DATA_START + 32, 0xfffffff0, true));
    await expect(fs.list(dir)).rejects.toThrow(/inode = 4294967280 is outside the volume/);
    await expect(fs.lookup(dir, 'a-rather-long-name-0')).rejects.toThrow(CorruptionError);
  });

  test('a damaged index: no change, but every name is still found and listed', async () => {
    const { fs, dir, di } = await directory();
    expect(di.dynFeatures & DYN.INDEXED_DIR).toBe(DYN.INDEXED_DIR);
    await fs.ctx.engine.run('damage', (op) => {
      DxRoot.at(op.write(fs.ctx.editInode(op, dir).lock, di.dxRoot, DX_ROOT)).dirBlkno = dir + 1;
    });
    expect((await fs.list(dir)).size).toBe(152);
    expect((await fs.lookup(dir, 'a-rather-long-name-77')).links).toBe(1);
    await expect(fs.create(dir, 'new')).rejects.toThrow(/dx_root.dr_dir_blkno/);
    await expect(fs.ns.unlink(dir, bytes('a-rather-long-name-77'))).rejects.toThrow(/dx_root.dr_dir_blkno/);
    await expect(fs.ns.rename({ oldDir: dir, oldName: bytes('a-rather-long-name-77'), newDir: fs.ns.root, newName: bytes('x') })).rejects.toThrow(CorruptionError);
    expect((await fs.list(dir)).size).toBe(152);
  });

  test('a free list that runs in a circle', async () => {
    const { fs, dir, di } = await directory(400);
    await fs.ctx.engine.run('damage', (op) => {
      const { lock } = fs.ctx.editInode(op, dir);
      const root = DxRoot.at(op.write(lock, di.dxRoot, DX_ROOT));
      const first = op.write(lock, root.freeBlk, { name: 'raw', checkAt: () => -1, validate: () => undefined });
      first.dv.setUint32(4096 - 64 + 0x20, root.freeBlk, true);
      first.dv.setUint16(4096 - 64 + 0x0e, 0, true);
    });
    await expect(fs.create(dir, 'new')).rejects.toThrow(/dr_free_blk.*circle/);
  });

  test('names hashed by a kernel with unsigned characters are found and removed', async () => {
    for (const count of [150, 600]) {
      const { fs, dir, di } = await directory(count);
      const { ctx } = fs;
      const name = 'grün-ö';
      await fs.create(dir, name);
      await ctx.engine.run('other hash', (op) => {
        const { lock } = ctx.editInode(op, dir);
        const [s0, s1] = ctx.geo.dxSeed;
        const is = dirHash(bytes(name), s0, s1), other = dirHash(bytes(name), s0, s1, true);
        const root = DxRoot.at(op.write(lock, di.dxRoot, DX_ROOT));
        if (!(root.flags & DX_INLINE)) return moveEntry(op, ctx, dir, is, other);
        const list = new DxEntryList(root.block, DX_ROOT_LIST);
        for (let i = 0; i < list.used; i++) if (list.major(i) === is.major && list.minor(i) === is.minor) list.set(i, other.major, other.minor, list.direntBlk(i));
      });
      expect((await fs.lookup(dir, name)).links).toBe(1);
      await fs.ns.unlink(dir, bytes(name));
      expect((await fs.list(dir)).size).toBe(count + 2);
    }
  });
});

/** Move an index entry to where another hash belongs. */
function moveEntry(op: Op, ctx: FsContext, dir: number, is: { major: number; minor: number }, other: { major: number; minor: number }): void {
  const { lock, di } = ctx.editInode(op, dir);
  const root = op.read(lock, di.dxRoot, DX_ROOT);
  const cpos = (i: number) => root.dv.getUint32(DX_ROOT_LIST + 16 + 16 * i, true);
  const leafOf = (major: number) => {
    let i = root.dv.getUint16(DX_ROOT_LIST + 4, true) - 1;
    while (cpos(i) > major) i--;
    const len = root.dv.getUint16(DX_ROOT_LIST + 16 + 16 * i + 4, true);
    return new DxEntryList(op.write(lock, root.dv.getUint32(DX_ROOT_LIST + 16 + 16 * i + 8, true) + Math.min(major - cpos(i), len - 1), DX_LEAF), DX_LEAF_LIST);
  };
  const from = leafOf(is.major);
  for (let i = 0; i < from.used; i++) {
    if (from.major(i) !== is.major || from.minor(i) !== is.minor) continue;
    const blkno = from.direntBlk(i);
    from.remove(i);
    const to = leafOf(other.major);
    to.set(to.used, other.major, other.minor, blkno);
    to.used++;
    return;
  }
  throw new Error('entry not found');
}
