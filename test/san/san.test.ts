/**
 * A host with two paths to each LUN, Debian's multipathd and udev, and lunfs on it (one machine for all): what `lunfs lun` says is what multipathd, lsblk, lsscsi and sg_inq say; what it refuses;
 * a LUN that grows on one path first is waited for, and the volume on it, mounted, grows with it; so does the partition that parted made and a volume of mkfs.ocfs2 in it.
 */
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mkfs } from '../support/ocfs2-tools.js';
import { SanHost, wwnOf } from '../support/san-host.js';
import { Cleanup, must, sparseFile, tempDir } from '../support/temp.js';

const MIB = 2 ** 20;
const cleanup = new Cleanup();
let host: SanHost;
beforeAll(async () => {
  // A GPT made by parted, in its one partition a volume made by mkfs.ocfs2.
  const directory = tempDir(cleanup, 'parts');
  const volume = path.join(directory, 'volume'), parts = sparseFile(path.join(directory, 'parts'), 192 * MIB);
  await mkfs(volume, { size: 190 * MIB, blockSize: 4096, clusterSize: 4096, slots: 2, label: 'old' });
  await must('parted', ['-s', parts, 'mklabel', 'gpt', 'mkpart', 'volume', '1MiB', '191MiB']);
  await must('dd', [`if=${volume}`, `of=${parts}`, 'bs=1M', 'seek=1', 'conv=notrunc,sparse', 'status=none']);
  host = await SanHost.start(cleanup, [{ name: 'first', bytes: 256 * MIB }, { name: 'parts', bytes: 192 * MIB, file: parts }, { name: 'bare', bytes: 64 * MIB, blacklisted: true }], 'no_path_retry queue');
}, 1_800_000);
afterAll(() => cleanup.run(), 120_000);

interface Lun {
  device: string;
  wwid: string;
  serial: string;
  vendor: string;
  model: string;
  revision: string;
  size: number;
  map?: { name: string; kernelName: string; policy: { selectors: string[]; queueing: { kind: string } } };
  paths: { kernelName: string; hctl: string; state: string; size: number; inMap: boolean; mapState?: string; checked?: string }[];
  uses: { text: string }[];
  findings: { code: string; severity: string }[];
  content: { volume?: { uuid: string }; signatures: { kind: string }[] };
  partitionContent: { device: string }[];
}

test('lun list says what multipathd, lsblk, lsscsi and sg_inq say', { timeout: 1_800_000 }, async () => {
  const { luns } = await host.json<{ luns: Lun[] }>('lun list');
  expect(luns.map(({ device }) => device).sort()).toEqual(['/dev/disk/by-id/virtio-root', `/dev/disk/by-id/wwn-${wwnOf(2)}`, '/dev/mapper/mpatha', '/dev/mapper/mpathb', '/dev/vda']);
  const lun = luns.find(({ map }) => map?.name === 'mpatha')!;
  const { maps } = JSON.parse(await host.must('multipathd show maps json')) as { maps: { name: string; uuid: string; sysfs: string; path_groups: { selector: string; paths: { dev: string; dm_st: string; chk_st: string }[] }[] }[] };
  expect(maps).toHaveLength(2);
  for (const map of maps) {
    const one = luns.find(({ wwid }) => wwid === map.uuid);
    expect({ name: one?.map?.name, kernelName: one?.map?.kernelName, selectors: one?.map?.policy.selectors }).toEqual({ name: map.name, kernelName: map.sysfs, selectors: [...new Set(map.path_groups.map(({ selector }) => selector))] });
    expect(one?.paths.map(({ kernelName, mapState, checked }) => [kernelName, mapState, checked])).toEqual(map.path_groups.flatMap(({ paths }) => paths.map((path) => [path.dev, path.dm_st, path.chk_st])).sort());
  }

  const { blockdevices } = JSON.parse(await host.must('lsblk --json -b -o NAME,SIZE,SERIAL,HCTL,VENDOR,MODEL,STATE,REV,TYPE')) as { blockdevices: { name: string; size: number; serial: string; hctl: string; vendor: string; model: string; state: string; rev: string; children?: { name: string; size: number; type: string }[] }[] };
  for (const one of luns.filter(({ paths }) => paths.every(({ hctl }) => hctl !== undefined))) {
    for (const { kernelName, hctl, state, size } of one.paths) {
      const said = blockdevices.find(({ name }) => name === kernelName);
      expect({ kernelName, hctl, state, size, serial: one.serial, vendor: one.vendor, model: one.model, revision: one.revision }).toEqual({ kernelName: said?.name, hctl: said?.hctl, state: said?.state, size: said?.size, serial: said?.serial, vendor: said?.vendor.trim(), model: said?.model, revision: said?.rev });
      // A path can have partitions of its own beside the map.
      expect(said?.children?.filter(({ type }) => type === 'mpath').map(({ name, size: bytes }) => [name, bytes]) ?? []).toEqual(one.map === undefined ? [] : [[one.map.name, one.size]]);
    }
  }
  // [0:0:0:0]    disk    LUNFS    VIRTUAL LUN      2.5+  /dev/sda   35001405abcdef000
  const scsi = [...(await host.must('lsscsi -i')).matchAll(/^\[([\d:]+)\].*\/dev\/(\S+)\s+(\S+)\s*$/gm)].map(([, hctl, name, wwid]) => [hctl, name, wwid]);
  // It takes the identity from udev's links, which name one of two paths that have no map.
  const shown = (hctl: string, wwid: string): string => (scsi.find(([one]) => one === hctl)?.[2] === '-' ? '-' : wwid);
  expect(luns.flatMap(({ wwid, paths }) => paths.flatMap(({ hctl, kernelName }) => (hctl === undefined ? [] : [[hctl, kernelName, shown(hctl, wwid)]]))).sort()).toEqual(scsi.sort());
  expect(await host.must('sg_inq /dev/mapper/mpatha')).toContain(`Unit serial number: ${lun.serial}`);
  expect(await host.must('sg_inq -p 0x83 /dev/mapper/mpatha')).toContain(`[0x${lun.wwid.slice(1)}]`);

  const bare = luns.find(({ serial }) => serial === 'bare');
  expect(bare).toMatchObject({ size: 64 * MIB, findings: [{ code: 'MAP_MISSING', severity: 'error' }] });
  expect(bare?.paths.map(({ inMap }) => inMap)).toEqual([false, false]);
  expect(lun.findings).toEqual([]);
  const table = luns.find(({ map }) => map?.name === 'mpathb');
  expect(table?.content.signatures).toMatchObject([{ kind: 'gpt' }]);
  expect(table?.partitionContent).toMatchObject([{ device: '/dev/mapper/mpathb-part1', volume: { kind: 'ocfs2', label: 'old' } }]);
});

test('what hurts is refused, and times that contradict the cluster are told of', { timeout: 1_800_000 }, async () => {
  const refused = async (line: string, status: number, ...words: string[]): Promise<void> => {
    const { status: was, stdout, stderr } = await host.lunfs(line);
    expect([was, line]).toEqual([status, line]);
    for (const word of words) expect(`${stdout}${stderr}`).toContain(word);
  };
  await refused(`mkfs -q -F -M local /dev/${(await host.must('ls /sys/class/scsi_device/0:0:0:0/device/block')).trim()}`, 1, 'is one path of the multipath map mpatha. Use /dev/mapper/mpatha');
  await refused(`mkfs -q -F -M local /dev/disk/by-id/scsi-3${wwnOf(2).slice(2)}`, 1, 'there is no multipath map over them');
  await refused('lun check $(readlink -f /dev/mapper/mpatha)', 1, 'NAME_UNSTABLE', 'write /dev/mapper/mpatha', 'QUEUES_FOREVER');
  await host.configure('no_path_retry 3');
  await host.must('multipathd reconfigure; for i in $(seq 300); do multipathd show maps json | grep -q "3 chk" && exit; sleep 0.2; done; multipathd show maps json >&2; exit 1');
  await refused('lun check /dev/mapper/mpatha', 0, 'fit for a cluster that recovers a host after 60 s');
});

test('a LUN that grows on one path first, under a mounted volume', { timeout: 1_800_000 }, async () => {
  await host.must('mkdir -p /tmp/m');
  expect(await host.lunfs('mkfs -q -F -M local /dev/mapper/mpatha')).toMatchObject({ status: 0 });
  expect(await host.lunfs('mount /dev/mapper/mpatha /tmp/m')).toMatchObject({ status: 0 });
  await host.must('dd if=/dev/urandom of=/tmp/m/before bs=1M count=20 2>/dev/null && sync && sha256sum /tmp/m/before > /tmp/sum');
  await host.resize('first', 0, 512 * MIB);
  const alone = await host.lunfs('lun rescan --timeout 3 /dev/mapper/mpatha');
  expect(alone.status).toBe(1);
  // Names go by the order in which controllers are found.
  const [near, far] = await Promise.all(['0:0:0:0', '1:0:0:0'].map(async (hctl) => (await host.must(`ls /sys/class/scsi_device/${hctl}/device/block`)).trim()));
  expect(alone.stderr).toContain(`${far} (1:0:0:0) says ${256 * MIB} bytes; the others say ${512 * MIB}`);
  expect(Number(await host.must('cat /sys/block/$(basename $(readlink -f /dev/mapper/mpatha))/size'))).toBe((256 * MIB) / 512);
  // All of it in one step; the second path hears of the new size while lunfs waits.
  const waiting = host.lunfs('grow --rescan /tmp/m');
  await host.must('sleep 2');
  await host.resize('first', 1, 512 * MIB);
  const grown = await waiting;
  expect(grown).toMatchObject({ status: 0, stdout: expect.stringMatching(new RegExp(`^/dev/mapper/mpatha: from 256 MiB to 512 MiB \\(${256 * MIB} to ${512 * MIB} bytes\\)\n/dev/mapper/mpatha: from 256 MiB to 512 MiB: `)) as string });
  expect(await host.must(`cat /sys/block/${near}/size /sys/block/${far}/size /sys/block/$(basename $(readlink -f /dev/mapper/mpatha))/size`)).toBe(`${(512 * MIB) / 512}\n`.repeat(3));
  expect(Number(await host.must("stat -f -c '%b %S' /tmp/m | awk '{ print $1 * $2 }'"))).toBe(512 * MIB);
  const { uses, content } = await host.json<Lun>(`lun show /dev/${far}`);
  expect(uses.map(({ text }) => text)).toEqual(['lunfs volume, mounted on /tmp/m']);
  expect(content.volume).toBeDefined();
  await host.must('sha256sum -c --quiet /tmp/sum && umount /tmp/m');
});

test('a partition of a LUN that grows, under a mounted volume', { timeout: 1_800_000 }, async () => {
  const sectors = async (name: string): Promise<number> => Number(await host.must(`cat /sys/block/$(basename $(readlink -f /dev/mapper/${name}))/size`));
  expect(await host.lunfs('mount /dev/mapper/mpathb-part1 /tmp/m')).toMatchObject({ status: 0 });
  await host.must('dd if=/dev/urandom of=/tmp/m/before bs=1M count=20 2>/dev/null && sync && sha256sum /tmp/m/before > /tmp/sum');
  await host.resize('parts', 0, 384 * MIB);
  await host.resize('parts', 1, 384 * MIB);
  await host.must('for d in /sys/class/scsi_device/[01]:0:0:1; do echo 1 > $d/device/rescan; done; [ "$(multipathd resize map mpathb)" = ok ]');
  const table = await host.lunfs('lun grow-partition --save /tmp/saved /dev/mapper/mpathb-part1');
  expect([table.status, table.stderr]).toEqual([0, '']);
  expect(table.stdout).toContain(`from byte ${MIB} on as before`);
  expect(await sectors('mpathb-part1')).toBe((382 * MIB) / 512);
  const grown = await host.lunfs('grow /dev/mapper/mpathb-part1');
  expect([grown.status, grown.stderr]).toEqual([0, '']);
  expect(Number(await host.must("stat -f -c '%b %S' /tmp/m | awk '{ print $1 * $2 }'"))).toBe(382 * MIB);
  await host.must('sha256sum -c --quiet /tmp/sum && umount /tmp/m');
  expect(await must('sgdisk', ['--verify', host.files.get('parts')!])).toContain('No problems found');
  expect(await host.must('dmesg')).not.toMatch(/I\/O error|blocked for more than|Call Trace/);
});
