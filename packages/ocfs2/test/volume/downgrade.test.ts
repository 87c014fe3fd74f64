/** What lives by a file's cluster locks is given up before the locks are: mappings first, then the times of what they wrote. */
import { expect, test } from 'vitest';
import { Gate } from '@lunfs/device';
import { EX, MemoryDlm, lockName } from '../../src/locking/index.js';
import { RawReader } from '../../src/inspect/index.js';
import { Dinode } from '../../src/format/index.js';
import { Volume, mapRange, noteInPlaceWrite, registerGate, writeFile } from '../../src/volume/index.js';
import { TestClock } from '../support/context.js';
import { expectFsckClean, makeVolume } from '../support/volume.js';

test.each(['M', 'W'] as const)('another node asks for %s EX of a mapped file', async (type) => {
  const device = await makeVolume({ size: 60 << 20, mkfsArgs: ['-M', 'local', '-b', '4096', '-C', '4096', '-J', 'size=4M'] });
  const dlm = new MemoryDlm({ defer: (fn) => void setImmediate(fn), pick: () => 0 });
  const volume = await Volume.mount(device, { dlm, clock: new TestClock() });
  const { ctx, names } = volume;
  const file = await names.create(names.root, Buffer.from('disk'), { mode: 0o100600, uid: 0, gid: 0 });
  await writeFile(ctx, file.blkno, 0, new Uint8Array(8192).fill(1));
  await volume.sync();
  const gate = new Gate();
  const unregister = registerGate(ctx, file.blkno, gate);
  const { epoch, runs } = await mapRange(ctx, file.blkno, 0, 8192, true, 8, gate);
  expect(runs).toHaveLength(1);

  // A worker is in the middle of a write by the mapping when the other node asks.
  expect(gate.enter(epoch, 0, true)).toBe(true);
  await noteInPlaceWrite(ctx, file.blkno);
  const mtime = (await names.attributes(file.blkno)).mtime;
  let granted = false;
  const name = lockName(type, file.blkno, type === 'W' ? file.generation : 0);
  const other = dlm.lock(name, EX, { ast: () => { granted = true; }, bast: () => undefined, failed: () => undefined });
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(granted).toBe(false);
  expect(gate.epoch).not.toBe(epoch);
  expect(gate.enter(epoch, 0, true)).toBe(false);
  gate.leave();
  while (!granted) await new Promise((resolve) => setImmediate(resolve));

  // What the mapping wrote is told by the dinode in place, before the other node reads it.
  if (type === 'M') {
    const onDisk = Dinode.at(await (await RawReader.open(device)).inode(file.blkno));
    expect([onDisk.mtime, onDisk.mtimeNsec]).toEqual([mtime.sec, mtime.nsec]);
  }
  other.unlock();
  unregister();
  await names.forget(file.blkno);
  await volume.unmount();
  await expectFsckClean(device);
});
