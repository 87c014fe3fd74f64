/**
 * What a dead node leaves in a slot that is not ours: a journal, a window, a truncate log, orphans. The next mount gives all of it
 * back, crash or no crash in the middle of that (volume/recovery.ts). And where Linux may mount next, which a volume without
 * the offline mark says, no journal looks clean beside an open window: that it refuses (Linux 6.1
 * fs/ocfs2/localalloc.c:ocfs2_load_local_alloc).
 */
import { type MemoryDevice, Random, RecordingDevice, prefixImages, reorderedImages } from '@lunfs/device';
import { expect, test } from 'vitest';
import { checkVolume } from '../../src/check/index.js';
import { BitmapId1, JOURNAL_DIRTY, JournalId1, TruncateLog } from '../../src/format/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { SlotMap, Volume, hasOfflineMark, readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { seed } from '../../../../test/support/temp.js';
import { CRASH_VOLUMES, MAY_BE_LEFT, poisonedVolume, quietMount } from '../support/crash.js';
import { pattern } from '../support/posix.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

const SEED = seed('crash in recovery of two slots');
const LOCAL = CRASH_VOLUMES[0], CLUSTER = CRASH_VOLUMES.find(({ mkfs }) => mkfs.slots === 2)!;

/** Let the next mount take this slot, as if its node had died there. */
async function leaveIn(device: MemoryDevice, slot: number): Promise<void> {
  const reader = await RawReader.open(device);
  const map = await SlotMap.read(reader, (await readSystemFiles(reader)).slotMap);
  for (const { slot: other } of map.taken()) await map.set(device, other, undefined);
  await map.set(device, slot, 0);
}

/** What lies in place in each slot. */
async function slots(device: MemoryDevice): Promise<{ dirty: boolean; window: number; logged: number }[]> {
  const reader = await RawReader.open(device);
  const sys = await readSystemFiles(reader);
  return Promise.all(sys.journal.map(async (journal, slot) => ({
    dirty: (JournalId1.at(await reader.inode(journal)).flags & JOURNAL_DIRTY) !== 0,
    window: BitmapId1.at(await reader.inode(sys.localAlloc[slot])).total,
    logged: TruncateLog.at(await reader.inode(sys.truncateLog[slot])).used,
  })));
}

/** Work that ends in a power failure: a window, records in the truncate log and an orphan in place, more of it in the journal alone. */
async function workAndDie(device: MemoryDevice, slot: number): Promise<void> {
  await leaveIn(device, slot);
  const volume = await Volume.mount(device, quietMount(slot));
  expect(volume.ctx.slot).toBe(slot);
  const { names, ctx } = volume;
  const file = async (name: string, clusters: number): Promise<number> => {
    const { blkno } = await names.create(names.root, bytes(`${name}${slot}`), FILE);
    await writeFile(ctx, blkno, 0, pattern(0, clusters * ctx.geo.clusterSize, slot));
    return blkno;
  };
  await file('kept', 5);
  await truncateFile(ctx, await file('cut', 9), ctx.geo.clusterSize);
  await file('open', 7);
  await ctx.engine.log.flush();
  await names.unlink(names.root, bytes(`open${slot}`));
  await truncateFile(ctx, await file('more', 6), 0);
  await ctx.engine.log.commit();
}

async function expectAll(device: MemoryDevice, dead: readonly number[]): Promise<void> {
  const volume = await Volume.mount(device, quietMount(3));
  const { names, ctx } = volume;
  for (const slot of dead) {
    for (const [name, size] of [['kept', 5], ['cut', 1], ['more', 0]] as const) {
      const found = await names.lookup(names.root, bytes(`${name}${slot}`));
      await names.forget(found.blkno);
      const content = new Uint8Array(size * ctx.geo.clusterSize);
      expect(await readFile(ctx, found.blkno, 0, content)).toBe(found.size);
      expect(Buffer.compare(content, pattern(0, content.length, slot)), `${name}${slot}`).toBe(0);
    }
    expect(await names.find(names.root, bytes(`open${slot}`))).toBeUndefined();
  }
  await volume.unmount();
  expect(await slots(device)).toEqual(dead.map(() => ({ dirty: false, window: 0, logged: 0 })));
  expect((await checkVolume(device)).findings.filter(({ code }) => !MAY_BE_LEFT.includes(code))).toEqual([]);
}

test.each([['local', LOCAL, [0]], ['of a cluster', CLUSTER, [0, 1]]] as const)('on a volume %s what dead nodes owe is given back, whatever happens to recovery', { timeout: 600_000 }, async (_, spec, dead) => {
  const device = await poisonedVolume(spec);
  for (const slot of dead) {
    await workAndDie(device, slot);
    const left = (await slots(device))[slot];
    expect(left.dirty && left.window > 0 && left.logged > 0).toBe(true);
  }
  await leaveIn(device, dead[0]);
  const recording = new RecordingDevice(device.clone());
  await (await Volume.mount(recording, quietMount(2))).unmount();
  let images = 0;
  const check = async (image: MemoryDevice, what: string): Promise<void> => {
    if (!(await hasOfflineMark(await RawReader.open(image)))) {
      for (const [slot, { dirty, window }] of (await slots(image)).entries()) expect(dirty || window === 0, `${what}: the journal of slot ${slot} is clean, its window has ${window} clusters`).toBe(true);
    }
    await expectAll(image, dead);
    if (images++ % 40 === 11) await expectFsckClean(image, MAY_BE_LEFT);
  };
  for (const image of prefixImages(recording)) await check(image.device, `crash at ${image.point}`);
  for (const image of reorderedImages(recording, new Random(SEED))) await check(image.device, `LUNFS_SEED=${SEED}: crash at ${image.point}, seed ${image.seed}`);
  expect(images).toBeGreaterThan(50);
});
