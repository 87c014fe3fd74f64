import { MemoryDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { ExtentList, ID2 } from '../../src/format/index.js';
import { formatVolume, probeVolume } from '../../src/mkfs/index.js';
import { SlotMap } from '../../src/volume/index.js';

const MIB = 2 ** 20;

/** Put bytes at any offset. */
function put(device: MemoryDevice, at: number, bytes: Uint8Array): MemoryDevice {
  const from = at - (at % 512), length = Math.ceil((at - from + bytes.length) / 512) * 512;
  const sectors = new Uint8Array(length);
  device.readSync(from, sectors);
  sectors.set(bytes, at - from);
  device.writeSync(from, sectors);
  return device;
}

describe('an OCFS2 volume', () => {
  test('label, uuid, cluster, slots taken, nodes beating', async () => {
    const device = new MemoryDevice({ size: 100 * MIB, name: 'blank' });
    expect(await probeVolume(device)).toBeUndefined();
    await formatVolume(device, { label: 'disks', uuid: '0123456789ABCDEF0123456789ABCDEF', clusterStack: 'o2cb', clusterName: 'lab' }, { random: { u32: () => 77 }, time: 1 });
    const plain = { kind: 'ocfs2', text: 'an OCFS2 volume of cluster "lab"', label: 'disks', uuid: '0123456789ABCDEF0123456789ABCDEF', slots: 2, size: 100 * MIB, stack: 'o2cb', cluster: 'lab' };
    expect(await probeVolume(device)).toEqual(plain);
    const reader = await RawReader.open(device);
    const sys = await readSystemFiles(reader);
    await (await SlotMap.read(reader, sys.slotMap)).set(device, 1, 4);
    expect(await probeVolume(device)).toEqual({ ...plain, inUse: '1 slot taken: mounted, or not cleanly unmounted' });
    // A node whose beat counts on while we look.
    const first = new ExtentList(await reader.inode(sys.heartbeat), ID2).blkno(0);
    let beat = 0;
    const pause = async () => {
      const block = new Uint8Array(512);
      block[0] = ++beat;
      block[8] = 4;
      device.writeSync(first * reader.geo.blockSize + 4 * 512, block);
    };
    await pause();
    expect(await probeVolume(device, pause)).toEqual({ ...plain, inUse: 'node 4 beating on it now' });
    put(device, 2 * reader.geo.blockSize + 0xf8, Uint8Array.of(77));
    expect((await probeVolume(device))?.text).toContain('damaged');
  });
});
