/** Our journal against the tools' and the kernel's: they replay what we wrote, we replay what they wrote, same blocks. */
import path from 'node:path';
import type { MemoryDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { unpackFixture } from '../../../../test/support/fixtures.js';
import { exec, must } from '../../../../test/support/temp.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { JournalInode, LogReader, replayJournal } from '../../src/journal/index.js';
import { openTestContext } from '../support/context.js';
import { GEOMETRIES, loadSparse, makeVolume, withDir, writeOut } from '../support/volume.js';

/** Blocks in which two devices differ. */
function differing(a: MemoryDevice, b: MemoryDevice, blockSize: number): number[] {
  const out: number[] = [];
  const x = new Uint8Array(1 << 20), y = new Uint8Array(1 << 20);
  for (let at = 0; at < a.size; at += x.length) {
    const n = Math.min(x.length, a.size - at);
    a.readSync(at, x.subarray(0, n));
    b.readSync(at, y.subarray(0, n));
    if (Buffer.compare(x, y) === 0) continue;
    for (let k = 0; k < n; k += blockSize) if (Buffer.compare(x.subarray(k, k + blockSize), y.subarray(k, k + blockSize)) !== 0) out.push((at + k) / blockSize);
  }
  return out;
}

/** Let fsck.ocfs2 replay the journals. What it does after that needs a cluster stack or is its own business. */
async function replayedByFsck(device: MemoryDevice): Promise<{ device: MemoryDevice; text: string }> {
  return withDir(async (dir) => {
    const file = writeOut(device, path.join(dir, 'volume'));
    const { stdout, stderr } = await exec('fsck.ocfs2', ['-y', file]);
    return { device: await loadSparse(file, device.size), text: stdout + stderr };
  });
}

const VOLUMES = [...GEOMETRIES, { ...GEOMETRIES[1], name: '4K/4K metaecc, 64-bit journal', mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '2', '-J', 'size=4M,block64', '--fs-features=metaecc'] }];

describe.each(VOLUMES)('a journal of ours, $name', (spec) => {
  test('is replayed by fsck.ocfs2 into the same blocks as by us, and debugfs.ocfs2 reads it', async () => {
    // A local volume: fsck.ocfs2 replays journals of others only inside their cluster.
    const device = await makeVolume({ ...spec, mkfsArgs: [...spec.mkfsArgs, '-M', 'local'] });
    const reader = await RawReader.open(device);
    const sys = await readSystemFiles(reader);
    const { geo } = reader;
    await (await JournalInode.read(reader, sys.journal[0])).markDirty();
    const ctx = await openTestContext(device, { journal: true });
    const inodes = [geo.rootBlkno, geo.systemDirBlkno, sys.slotMap, sys.heartbeat, sys.globalInodeAlloc, ...sys.orphanDir, ...sys.inodeAlloc, ...sys.extentAlloc];
    for (let i = 0; i < 400; i++) {
      await ctx.engine.run('touch', (op) => {
        for (const blkno of [inodes[i % inodes.length], inodes[(i * 7) % inodes.length]]) ctx.editInode(op, blkno).di.atime = 2_000_000_000 + i;
      });
      if (i % 3 === 0) await ctx.engine.log.commit();
      // Late enough that the log goes round the end of a journal of 4 MiB.
      if (i === 350) await ctx.engine.log.flush();
    }
    await ctx.engine.log.commit();

    const ours = device.clone();
    const inode = await JournalInode.read(reader, sys.journal[0]);
    const { replayed, transactions } = await replayJournal(ours, geo, inode.map);
    expect(replayed).toBeGreaterThan(5);
    expect(transactions).toBeGreaterThan(10);
    const theirs = await replayedByFsck(device);
    expect(theirs.text).toContain("Slot 0's journal replayed successfully");
    // The journal's own blocks are each replayer's: dirty flag, recovery generation, log.
    const left = differing(ours, theirs.device, geo.blockSize).filter((blkno) => blkno !== sys.journal[0] && !inode.map.contains(blkno));
    expect(left).toEqual([]);
    expect(differing(device, ours, geo.blockSize).length).toBeGreaterThan(5);

    const log = await withDir((dir) => must('debugfs.ocfs2', ['-R', 'logdump -T 0', writeOut(device, path.join(dir, 'volume'))]));
    expect(log).toMatch(/Commit/i);
  });
});

test("the kernel's journal of the crashed fixture puts every block right, whatever was in its place", async () => {
  const device = await withDir(async (dir) => loadSparse(await unpackFixture('crash', dir)));
  const reader = await RawReader.open(device);
  const sys = await readSystemFiles(reader);
  const inode = await JournalInode.read(reader, sys.journal[0]);
  expect(inode.dirty).toBe(true);
  const log = await LogReader.open(device, reader.geo, inode.map);
  const { transactions } = await log.scan();
  const images = log.images(transactions);
  expect(images.length).toBe(56);
  const ours = device.clone();
  // Linux had written some of these blocks in place already. Break what replay does not need to be readable.
  const needed = new Set([...sys.journal, reader.geo.systemDirBlkno]);
  for (const { blkno } of images) if (!needed.has(blkno)) ours.writeSync(blkno * reader.geo.blockSize, new Uint8Array(reader.geo.blockSize).fill(0xee));
  const theirs = await replayedByFsck(device);
  expect(theirs.text).toContain("Slot 0's journal replayed successfully");
  expect((await replayJournal(ours, reader.geo, inode.map)).replayed).toBe(56);
  expect(differing(ours, theirs.device, reader.geo.blockSize).filter((blkno) => blkno !== sys.journal[0])).toEqual([]);
});
