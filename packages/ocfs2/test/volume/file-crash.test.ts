/**
 * File data against a power failure: random operations on one file of a journaled volume whose free space is full of a
 * deleted file's bytes. Every crash image, mounted again, shows in each sector a state of that sector since the last
 * sync, and never the deleted bytes; nothing is leaked.
 */
import { type BlockDevice, FaultyDevice, type MemoryDevice, Random, RecordingDevice, prefixImages, reorderedImages } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { checkVolume } from '../../src/check/index.js';
import { MODE } from '../../src/format/index.js';
import { Volume, fallocate, readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { seed } from '../../../../test/support/temp.js';
import { TestClock } from '../support/context.js';
import { expectFsckClean, makeVolume } from '../support/volume.js';

const STALE = 0xaa;
const NAME = new TextEncoder().encode('file');
const OLD = new TextEncoder().encode('old');
const SPEC = { mode: MODE.REG | 0o644, uid: 0, gid: 0 };
const GEOMETRIES = [
  { name: '4K/4K', mkfsArgs: ['-M', 'local', '-b', '4096', '-C', '4096', '-N', '1', '-J', 'size=4M'], size: 24 << 20 },
  { name: '1K/16K metaecc', mkfsArgs: ['-M', 'local', '-b', '1024', '-C', '16K', '-N', '1', '-J', 'size=4M', '--fs-features=metaecc'], size: 24 << 20 },
] as const;

/** A volume whose free clusters hold what was deleted. */
async function staleVolume(spec: (typeof GEOMETRIES)[number]): Promise<MemoryDevice> {
  const device = await makeVolume(spec);
  const volume = await Volume.mount(device, { clock: new TestClock() });
  const { blkno } = await volume.names.create(volume.names.root, OLD, SPEC);
  const chunk = new Uint8Array(64 << 10).fill(STALE);
  await expect((async () => {
    for (;;) await writeFile(volume.ctx, blkno, 'append', chunk);
  })()).rejects.toMatchObject({ code: 'NO_SPACE' });
  await volume.names.unlink(volume.names.root, OLD);
  await volume.names.create(volume.names.root, NAME, SPEC);
  await volume.unmount();
  return device;
}

interface Script {
  readonly recording: RecordingDevice;
  /** Content after each operation. */
  readonly states: readonly Uint8Array[];
}

/** Do `work` while commits are asked for all the time, so that one falls between the operation and its data. */
async function besideCommits(volume: Volume, work: Promise<unknown>): Promise<void> {
  let done = false;
  const finished = work.finally(() => (done = true));
  for (let turn = 1; !done; turn++) {
    await volume.ctx.engine.log.commit({ durable: false });
    if (turn % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await finished;
}

async function runScript(base: MemoryDevice, dice: Random, count: number): Promise<Script> {
  const recording = new RecordingDevice(base);
  // Below the recording: requests take their time, so a flush does not cover data that nobody waited for.
  const sleep = async () => {
    for (let turns = dice.int(12); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
  };
  (recording as { inner: BlockDevice }).inner = new FaultyDevice(base, { random: dice.fork(), clock: { sleep }, latency: () => 1 });
  const volume = await Volume.mount(recording, { clock: new TestClock(), commitInterval: 1e6 });
  const { ctx } = volume;
  const ino = (await volume.names.lookup(volume.names.root, NAME)).blkno;
  const states = [new Uint8Array(0)];
  const limit = 90_000;
  for (let i = 1; i <= count; i++) {
    const last = states[i - 1];
    const at = dice.int(limit), length = 1 + dice.int(20_000);
    const next = (size: number) => {
      const bytes = new Uint8Array(size);
      bytes.set(last.subarray(0, size));
      return bytes;
    };
    const kind = dice.int(10);
    const run = (work: Promise<unknown>) => (dice.chance(0.5) ? besideCommits(volume, work) : work);
    if (kind < 5) {
      const where = kind === 0 ? last.length : at;
      const data = new Uint8Array(length).fill(1 + (i % 150));
      const bytes = next(Math.max(last.length, where + length));
      bytes.set(data, where);
      states.push(bytes);
      await run(writeFile(ctx, ino, kind === 0 ? 'append' : where, data, { behind: dice.chance(0.5) }));
    } else if (kind < 7) {
      states.push(next(at));
      await run(truncateFile(ctx, ino, at));
    } else {
      const mode = (['reserve', 'punch', 'zero'] as const)[kind - 7];
      const bytes = next(mode === 'punch' ? last.length : Math.max(last.length, at + length));
      if (mode !== 'reserve') bytes.fill(0, at, Math.min(bytes.length, at + length));
      states.push(bytes);
      await run(fallocate(ctx, ino, mode, at, length, false));
    }
    const what = dice.int(6);
    if (what === 0) {
      await volume.sync();
      recording.mark(String(i));
    } else if (what < 3) await ctx.engine.log.commit({ durable: false });
  }
  await volume.unmount();
  recording.mark(String(count));
  return { recording, states };
}

async function expectSound(device: MemoryDevice, states: readonly Uint8Array[], synced: number, what: string, fsck: boolean): Promise<void> {
  const volume = await Volume.mount(device, { clock: new TestClock() });
  const { blkno, size } = await volume.names.lookup(volume.names.root, NAME);
  const bytes = new Uint8Array(size);
  await readFile(volume.ctx, blkno, 0, bytes);
  const possible = states.slice(synced);
  expect(bytes.includes(STALE), `${what}: deleted bytes show`).toBe(false);
  expect(possible.some((s) => s.length === size), `${what}: size ${size}`).toBe(true);
  for (let at = 0; at < size; at += 512) {
    const sector = bytes.subarray(at, at + 512);
    const match = possible.some((s) => {
      const wanted = new Uint8Array(sector.length);
      wanted.set(s.subarray(at, at + sector.length));
      return Buffer.compare(sector, wanted) === 0;
    });
    if (!match) throw new Error(`${what}: sector at byte ${at} (${sector[0]}…) is none of the states since operation ${synced}`);
  }
  await volume.unmount();
  const { findings } = await checkVolume(device);
  expect(findings.filter((f) => f.code !== 'INODE_SPARSE_SIZE').map((f) => f.message), what).toEqual([]);
  if (fsck) await expectFsckClean(device, ['INODE_SPARSE_SIZE']);
}

const synced = (marks: readonly string[]) => Number(marks.at(-1) ?? 0);

describe.each(GEOMETRIES)('a crash at any write, $name', (spec) => {
  test('file data is one of its states since the last sync', { timeout: 120_000 }, async () => {
    const start = seed(`file crash ${spec.name}`);
    const { recording, states } = await runScript(await staleVolume(spec), new Random(start), 40);
    const step = Math.max(1, Math.floor(recording.log.length / 60));
    let n = 0;
    for (const { device, marks, point } of prefixImages(recording, (p) => p % step === 0)) {
      await expectSound(device, states, synced(marks), `crash at ${point}`, n++ % 20 === 0);
    }
    for (const { device, marks, point, seed: image } of reorderedImages(recording, new Random(start), { select: (p) => p % step === step >> 1 })) {
      await expectSound(device, states, synced(marks), `reordered crash at ${point}, image ${image}`, n++ % 20 === 0);
    }
    expect(n).toBeGreaterThan(60);
  });
});
