/**
 * Reads, writes, truncates and appends of one file by many at once: every sector is a register whose reads and writes some
 * order explains, and so is the size that appends and truncates go by (support/linearizable.ts). All clusters come from one
 * allocator; the volume is sound after it. LUNFS_SEED=… repeats a run.
 */
import { Random } from '@lunfs/device';
import { expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { History, type Specification } from '../support/linearizable.js';
import { LockGraph } from '../support/lock-graph.js';
import { MEMBERS, company } from '../support/members.js';
import { FILE, bytes } from '../volume/support.js';

const SECTOR = 512;
type Io = { readonly write: number } | { readonly read: number };
const SECTOR_REGISTER: Specification<number, Io> = {
  initial: 0, key: String, looks: (io) => 'read' in io, step: (state, io) => ('write' in io ? io.write : io.read === state ? state : undefined),
};

type SizeIo = { readonly append: number; readonly at: number } | { readonly truncate: number } | { readonly size: number };
const SIZE: Specification<number, SizeIo> = {
  initial: 0, key: String, looks: (io) => 'size' in io,
  step: (state, io) => ('append' in io ? (io.at === state ? state + io.append : undefined) : 'truncate' in io ? io.truncate : io.size === state ? state : undefined),
};

/** A sector that says which write it is of. */
function stamped(sectors: number, value: number): Uint8Array {
  const out = new Uint8Array(sectors * SECTOR);
  new Uint32Array(out.buffer).fill(value);
  return out;
}

/** The stamp of a sector; throws if it is torn. */
function stampOf(sector: Uint8Array): number {
  const words = new Uint32Array(sector.slice().buffer);
  if (words.some((word) => word !== words[0])) throw new Error(`a sector holds ${words[0]} and ${words.find((word) => word !== words[0])}`);
  return words[0];
}

const SIZES = { 'local locks': { users: 200, calls: 6 }, 'hostile locks': { users: 24, calls: 8 }, 'two members': { users: 40, calls: 8 } } as const;

test.each(MEMBERS)('one file, %s', { timeout: 300_000 }, async (kind) => {
  const random = new Random(seed(`file at once, ${kind}`));
  const { members, end } = await company(kind, random.fork());
  const { users, calls } = SIZES[kind];
  const [{ names }] = members;
  const ino = (await names.create(names.root, bytes('file'), FILE)).blkno;
  const log = (await names.create(names.root, bytes('log'), FILE)).blkno;
  const sectors = new History<Io>(), sizes = new History<SizeIo>();
  const range = users * 2;
  let value = 0;
  const graph = new LockGraph();
  const stop = graph.watch();
  await Promise.all(Array.from({ length: users }, async (_, i) => {
    const { ctx, names: own } = members[i % members.length];
    for (let n = 0; n < calls; n++) {
      const first = random.int(range), count = Math.min(range - first, 1 + random.int(12));
      const dice = random.int(12);
      const begin = sectors.now(), sizeBegin = sizes.now();
      const noteEach = (from: number, to: number, io: (sector: number) => Io): void => {
        const done = sectors.now();
        for (let s = from; s < to; s++) sectors.note(`sector ${s}`, begin, done, io(s));
      };
      if (dice < 5) {
        const mine = ++value;
        await writeFile(ctx, ino, first * SECTOR, stamped(count, mine));
        noteEach(first, first + count, () => ({ write: mine }));
      } else if (dice < 9) {
        const into = new Uint8Array(count * SECTOR);
        await readFile(ctx, ino, first * SECTOR, into);
        noteEach(first, first + count, (s) => ({ read: stampOf(into.subarray((s - first) * SECTOR, (s - first + 1) * SECTOR)) }));
      } else if (dice === 9 && n % 3 === 0) {
        // All beyond is zero from then on.
        await truncateFile(ctx, ino, first * SECTOR);
        noteEach(first, range, () => ({ write: 0 }));
      } else if (dice === 10 && n % 4 === 0) {
        const to = random.int(5000);
        await truncateFile(ctx, log, to);
        sizes.note('size', sizeBegin, sizes.now(), { truncate: to });
      } else if (dice === 9) {
        const { size } = await own.attributes(log);
        sizes.note('size', sizeBegin, sizes.now(), { size });
      } else {
        const length = 1 + random.int(2000);
        const at = await writeFile(ctx, log, 'append', new Uint8Array(length).fill(1 + (i % 255)));
        sizes.note('size', sizeBegin, sizes.now(), { append: length, at });
      }
    }
  }));
  stop();
  expect(sectors.expectLinearizable(SECTOR_REGISTER)).toBeLessThan(range / 20);
  expect(sizes.expectLinearizable(SIZE)).toBe(0);
  if (kind !== 'local locks') expect(graph.waits).toBeGreaterThan(50);
  graph.expectNoCircle();
  await end();
});
