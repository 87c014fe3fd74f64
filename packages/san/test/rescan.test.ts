/** A LUN that grew, from what a host does when it is asked: in which order it is asked, and what is said when somebody lags. */
import { afterEach, expect, it } from 'vitest';
import { Cleanup, tempDir } from '../../../test/support/temp.js';
import { lunsOf, viewOf } from '../src/luns.js';
import { type Rescanned, rescanLun } from '../src/rescan.js';
import { Tree } from './support/tree.js';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());
const WWID = '35001405abcdef000', OLD = 524288, NEW = 1048576;

function mapped(): Tree {
  const host = new Tree(tempDir(cleanup, 'rescan'));
  host.mounts();
  host.sd('sda', { number: '8:0', wwid: `naa.${WWID.slice(1)}`, sectors: OLD });
  host.sd('sdb', { number: '8:16', hctl: '1:0:0:0', wwid: `naa.${WWID.slice(1)}`, via: 'virtio2/host1', sectors: OLD });
  host.dm('dm-0', { mapName: 'mpatha', uuid: `mpath-${WWID}`, slaves: ['sda', 'sdb'], sectors: OLD });
  host.multipathd({ name: 'mpatha', wwid: WWID, dm: 'dm-0', paths: [{ dev: 'sda' }, { dev: 'sdb' }] });
  host.answers.set('multipathd resize map mpatha', { stdout: 'ok\n' });
  host.effects.set('multipathd resize map mpatha', () => host.resize('dm-0', NEW));
  return host;
}

async function rescan(host: Tree, timeoutMs = 10_000): Promise<Rescanned> {
  return await rescanLun(host.host, lunsOf(await viewOf(host.host))[0], { timeoutMs });
}

it('asks every path, those that lag again, and the map last', async () => {
  const host = mapped();
  let asked = 0;
  host.onRescan('sda', () => host.resize('sda', NEW));
  host.onRescan('sdb', () => {
    // It hears of the new size when it is asked for the third time.
    if (++asked === 3) host.resize('sdb', NEW);
  });
  expect(await rescan(host)).toEqual({
    device: '/dev/mapper/mpatha', before: OLD * 512, after: NEW * 512, paths: [{ kernelName: 'sda', before: OLD * 512, after: NEW * 512 }, { kernelName: 'sdb', before: OLD * 512, after: NEW * 512 }],
  });
  expect(host.ran.filter((line) => line.startsWith('multipathd resize'))).toHaveLength(1);
  expect(host.ran.findLastIndex((line) => line.includes('device/rescan'))).toBeLessThan(host.ran.indexOf('multipathd resize map mpatha'));
});

it('leaves the map alone while a path lags, and names it', async () => {
  const host = mapped();
  host.onRescan('sda', () => host.resize('sda', NEW));
  await expect(rescan(host, 1)).rejects.toMatchObject({ code: 'PATH_SIZE', message: expect.stringMatching(/sdb \(1:0:0:0\) says 268435456 bytes and did not take the rescan; the others say 536870912/) as string });
  expect(host.ran).not.toContain('multipathd resize map mpatha');
});

it('nothing grew: the map is not touched; a map that multipathd does not resize is an error', async () => {
  const same = mapped();
  for (const name of ['sda', 'sdb']) same.onRescan(name, () => undefined);
  expect(await rescan(same)).toMatchObject({ before: OLD * 512, after: OLD * 512 });
  expect(same.ran).not.toContain('multipathd resize map mpatha');
  const stuck = mapped();
  stuck.effects.clear();
  for (const name of ['sda', 'sdb']) stuck.onRescan(name, () => stuck.resize(name, NEW));
  stuck.answers.set('multipathd resize map mpatha', { stdout: 'fail\n' });
  await expect(rescan(stuck)).rejects.toMatchObject({ code: 'MAP_RESIZE', message: expect.stringContaining('said "fail"') as string });
});
