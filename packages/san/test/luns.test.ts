/** LUNs from what a host says: folded, named, and judged. */
import { afterEach, describe, expect, it } from 'vitest';
import { Cleanup, tempDir } from '../../../test/support/temp.js';
import { type Lun, findByNumber, lunsOf, multipathWwid, nameFindings, viewOf } from '../src/luns.js';
import { isUnstableName } from '../src/names.js';
import { timesFindings } from '../src/times.js';
import { Tree } from './support/tree.js';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());
const NAA = 'naa.5001405abcdef000', WWID = '35001405abcdef000';

function tree(): Tree {
  const made = new Tree(tempDir(cleanup, 'san'));
  made.mounts();
  return made;
}

/** Two paths, one map. */
function mapped(change: { sectors?: number; state?: string; member?: boolean; via?: string } = {}): Tree {
  const host = tree();
  host.sd('sda', { hctl: '0:0:0:0', number: '8:0', wwid: NAA, serial: 'LUN0', via: change.via });
  host.sd('sdb', { hctl: '1:0:0:0', number: '8:16', wwid: NAA, via: 'virtio2/host1', sectors: change.sectors, state: change.state });
  host.dm('dm-0', { mapName: 'mpatha', uuid: `mpath-${WWID}`, slaves: change.member === false ? ['sda'] : ['sda', 'sdb'] });
  return host;
}

const luns = async (host: Tree): Promise<Lun[]> => lunsOf(await viewOf(host.host));
const codes = (lun: Lun): string[] => lun.findings.map(({ code }) => code);

describe('lunsOf', () => {
  it('folds paths into their map, and adds what multipathd knows', async () => {
    const host = mapped();
    host.multipathd({ name: 'mpatha', wwid: WWID, dm: 'dm-0', queueing: '12 chk', paths: [{ dev: 'sda' }, { dev: 'sdb', state: 'failed', checked: 'faulty' }] });
    const found = await luns(host);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({
      device: '/dev/mapper/mpatha', kernelName: 'dm-0', wwid: WWID, serial: 'LUN0', vendor: 'LUNFS', model: 'VIRTUAL LUN', revision: '2.5+', size: 256 << 20, uses: [],
      map: { name: 'mpatha', suspended: false, policy: { selectors: ['service-time 0'], queueing: { kind: 'checks', checks: 12 } } },
      paths: [
        { kernelName: 'sda', hctl: '0:0:0:0', state: 'running', transport: 'virtio', inMap: true, mapState: 'active', checked: 'ready', group: 1, times: { command: 30 } },
        { kernelName: 'sdb', hctl: '1:0:0:0', inMap: true, mapState: 'failed', checked: 'faulty', group: 2 },
      ],
    });
    expect(codes(found[0])).toEqual(['PATH_DOWN']);
  });

  it('says what is missing: the map, a path in it, multipathd, a size, every path', async () => {
    expect(codes((await luns(mapped()))[0])).toEqual(['NO_MULTIPATHD']);
    const apart = mapped({ member: false });
    apart.multipathd({ name: 'mpatha', wwid: WWID, dm: 'dm-0', paths: [{ dev: 'sda' }] });
    expect(codes((await luns(apart))[0])).toEqual(['PATH_OUTSIDE_MAP']);
    const sizes = mapped({ sectors: 1048576 });
    sizes.multipathd({ name: 'mpatha', wwid: WWID, dm: 'dm-0', paths: [{ dev: 'sda' }, { dev: 'sdb' }] });
    const [grown] = await luns(sizes);
    expect(codes(grown)).toEqual(['PATH_SIZE']);
    expect(grown.findings[0].text).toContain('sda, mpatha: 268435456 bytes; sdb: 536870912 bytes');
    const dead = mapped();
    dead.multipathd({ name: 'mpatha', wwid: WWID, dm: 'dm-0', paths: [{ dev: 'sda', state: 'failed' }, { dev: 'sdb', state: 'failed' }] });
    expect(codes((await luns(dead))[0])).toEqual(['NO_PATH']);
    const bare = tree();
    bare.sd('sda', { number: '8:0', wwid: NAA });
    bare.sd('sdb', { number: '8:16', wwid: NAA, hctl: '1:0:0:0', via: 'virtio2/host1' });
    bare.link('dev/disk/by-id/wwn-0x5001405abcdef000', '../../sdb');
    const found = await luns(bare);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ device: '/dev/disk/by-id/wwn-0x5001405abcdef000', kernelName: 'sda', wwid: WWID, paths: [{ kernelName: 'sda', inMap: false }, { kernelName: 'sdb', inMap: false }] });
    expect(codes(found[0])).toEqual(['MAP_MISSING']);
  });

  it('keeps disks without a WWID apart, and leaves out what is no LUN', async () => {
    const host = tree();
    host.sd('sda', { number: '8:0' });
    host.sd('sdb', { number: '8:16', hctl: '1:0:0:0', via: 'virtio2/host1' });
    host.dm('dm-0', { mapName: 'vg-root', uuid: 'LVM-abc', slaves: ['sda'] });
    host.dm('dm-1', { mapName: 'empty', uuid: '', number: '254:1' });
    expect((await luns(host)).map(({ kernelName }) => kernelName)).toEqual(['sda', 'sdb']);
  });

  it('names who uses it: mounts, swap, LVM, on it and on its partitions', async () => {
    const host = tree();
    host.sd('sda', { number: '8:0', wwid: NAA, partitions: [{ start: 2048, sectors: 100000, number: '8:1' }, { start: 104448, sectors: 100000, number: '8:2' }] });
    host.dm('dm-0', { mapName: 'vg-data', uuid: 'LVM-abc', slaves: ['sda'] });
    host.mounts(['8:1', '/srv\\040data', 'ext4'], ['254:0', '/var', 'xfs']);
    host.write('proc/swaps', 'Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 100 0 -2');
    expect((await luns(host))[0].uses.map(({ kind, device, text }) => [kind, device, text])).toEqual([
      ['lvm', '/dev/sda', 'LVM volume vg-data'], ['mount', '/dev/mapper/vg-data', 'mounted on /var (xfs)'], ['mount', '/dev/sda1', 'mounted on /srv data (ext4)'], ['swap', '/dev/sda2', 'swap'],
    ]);
  });

  it('takes nothing from an array or multipathd that it must not', async () => {
    const host = mapped();
    host.sd('sdc', { number: '8:32', hctl: '2:0:0:0', via: 'virtio3/host2', vendor: Buffer.from('\x1b[31mEVIL\xff\n', 'latin1'), wwid: `naa.${'6'.repeat(5000)}` });
    host.write('sys/block-is-not-a-name', '');
    const evil = (await luns(host)).find(({ kernelName }) => kernelName === 'sdc');
    expect(evil?.vendor).toBe('?[31mEVIL?');
    expect(evil?.wwid?.length).toBeLessThan(300);
    for (const stdout of ['{"major_version":0}', '{"major_version":1,"maps":[]}', '{ nonsense', '{"major_version":0,"maps":[{"name":7}]}']) {
      host.answers.set('multipathd show maps json', { stdout });
      await expect(viewOf(host.host)).rejects.toMatchObject({ code: 'MULTIPATHD_ANSWER' });
    }
  });
});

describe('names', () => {
  it('a path is refused for its map, and a kernel name for one that stays', async () => {
    const host = mapped();
    host.link('dev/disk/by-id/wwn-0x5000', '../../sdc');
    host.link('dev/disk/by-id/ata-xyz', '../../sdc');
    host.sd('sdc', { number: '8:32', hctl: '2:0:0:0', via: 'virtio3/host2', partitions: [{ start: 2048, sectors: 1000, number: '8:33' }] });
    const view = await viewOf(host.host);
    const path = findByNumber(view, '/dev/sdb', '8:16');
    expect(path).toMatchObject({ isPath: true, lun: { device: '/dev/mapper/mpatha' } });
    expect(nameFindings('/dev/sdb', path)).toMatchObject([{ code: 'DEVICE_HELD', severity: 'error', text: '/dev/sdb is one path of the multipath map mpatha. Use /dev/mapper/mpatha' }]);
    expect(nameFindings('/dev/dm-0', findByNumber(view, '/dev/dm-0', '254:0'))).toMatchObject([{ code: 'NAME_UNSTABLE', severity: 'warning' }]);
    expect(nameFindings('/dev/mapper/mpatha', findByNumber(view, '/dev/mapper/mpatha', '254:0'))).toEqual([]);
    const part = findByNumber(view, '/dev/sdc1', '8:33');
    expect(part).toMatchObject({ isPartition: true, kernelName: 'sdc1', lun: { device: '/dev/disk/by-id/wwn-0x5000' } });
    expect(() => findByNumber(view, '/dev/sdz', '8:400')).toThrow(expect.objectContaining({ code: 'DEVICE_NOT_A_LUN' }));
    expect(['/dev/sda', '/dev/sda1', '/dev/dm-11', '/dev/nvme0n1p2', '/dev/vdb'].every(isUnstableName)).toBe(true);
    expect(['/dev/mapper/a', '/dev/disk/by-id/x', '/dev/loop0', 'sda', '/srv/sda'].some(isUnstableName)).toBe(false);
  });

  it('WWIDs as multipath writes them', () => {
    expect([NAA, 'eui.0025', 't10.ATA     QEMU  x', 'iqn.2003'].map(multipathWwid)).toEqual([WWID, '20025', '1ATA_QEMU_x', 'iqn.2003']);
  });
});

describe('timesFindings', () => {
  const TIMES = { parkSeconds: 45, deadSeconds: 60 };
  const withQueue = async (queueing: string, features = '0'): Promise<string[]> => {
    const host = mapped();
    host.multipathd({ name: 'mpatha', wwid: WWID, dm: 'dm-0', queueing, features, paths: [{ dev: 'sda' }, { dev: 'sdb' }] });
    return timesFindings((await luns(host))[0], TIMES, 5).map(({ code, severity }) => `${severity} ${code}`);
  };

  it('queueing without a path must end before others recover this host', async () => {
    expect(await withQueue('-')).toEqual([]);
    expect(await withQueue('off', '1 queue_if_no_path')).toEqual(['error QUEUES_FOREVER']);
    expect(await withQueue('on')).toEqual(['error QUEUES_FOREVER']);
    expect(await withQueue('11 chk', '1 queue_if_no_path')).toEqual([]);
    expect(await withQueue('12 chk')).toEqual(['error QUEUES_TOO_LONG']);
  });

  it('a transport must fail in time for another path to carry the beat', async () => {
    const fc = mapped({ via: 'host7/rport-7:0-1' });
    const set = (fail: string, loss: string): void => {
      fc.write('sys/class/fc_remote_ports/rport-7:0-1/fast_io_fail_tmo', fail);
      fc.write('sys/class/fc_remote_ports/rport-7:0-1/dev_loss_tmo', loss);
    };
    const found = async (times = TIMES): Promise<string[]> => timesFindings((await luns(fc))[0], times, 5).map(({ code, severity }) => `${severity} ${code}`);
    fc.write('sys/class/fc_remote_ports/rport-7:0-1/port_name', '0x500a');
    set('5', '600');
    expect((await luns(fc))[0].paths[0]).toMatchObject({ transport: 'fc', target: '0x500a', times: { fastIoFail: 5, devLoss: 600 } });
    expect(await found()).toEqual([]);
    set('off', '600');
    expect(await found()).toEqual(['error FAILS_LATE']);
    set('50', '600');
    expect(await found()).toEqual(['warning FAILS_LATE']);
    set('5', '600');
    expect(await found({ parkSeconds: 9, deadSeconds: 12 })).toEqual(['warning COMMAND_TOO_LONG', 'warning COMMAND_TOO_LONG']);
    const iscsi = mapped({ via: 'platform/host7/session3' });
    iscsi.write('sys/class/iscsi_session/session3/targetname', 'iqn.2026-01.net:lun');
    for (const [tmo, want] of [['5', []], ['120', ['error FAILS_LATE']], ['-1', ['error FAILS_LATE']]] as const) {
      iscsi.write('sys/class/iscsi_session/session3/recovery_tmo', tmo);
      expect(timesFindings((await luns(iscsi))[0], TIMES, 5).map(({ code, severity }) => `${severity} ${code}`)).toEqual(want);
    }
  });
});
