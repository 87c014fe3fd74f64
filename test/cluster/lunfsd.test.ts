/** A host of ours mounts a volume beside a kernel node, by lunfsd and the command line: each sees at once what the other does. */
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ClusterLab } from '../support/cluster-lab.js';
import { LunfsHost } from '../support/lunfs-host.js';
import { KernelMapping, MAPPING_SCRIPT, Mapping, canMap } from '../support/mapping.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

interface Status {
  readonly pid: number;
  readonly nodes: readonly { readonly number: number; readonly live: boolean; readonly connection?: { readonly state: string } }[];
  readonly volumes: readonly { readonly pid: number; readonly state: string; readonly deadlineMs: number; readonly domain: { readonly members: number[]; readonly recovering: number[] } }[];
}

test('one volume, a kernel node and ours', { timeout: 900_000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'cluster'), 'lun');
  await mkfs(lun, { size: 512 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' });
  const lab = await ClusterLab.start(cleanup, { lun, count: 2, settings: { threshold: 7, idleMs: 5000 } });
  const ours = LunfsHost.inLab(cleanup, lab, await lab.host(1));
  const kernel = await lab.kernelNode(0);
  await kernel.mount('/dev/vda', '/mnt');
  const complained = await kernel.complaints();

  // Without lunfsd a cluster's volume is refused, and the remedy named.
  const refused = await ours.run('mount', ours.device, ours.mount);
  expect([refused.code, refused.stderr]).toEqual([32, expect.stringContaining('lunfs up')]);
  ours.canStandStill();
  await ours.up();
  await kernel.must('echo from the kernel > /mnt/k; mkdir /mnt/dir; seq 1000 > /mnt/dir/numbers');
  await ours.mountVolume();
  expect(await ours.do('cat $M/k; tail -n1 $M/dir/numbers')).toBe('from the kernel\n1000\n');
  const status = await ours.json<Status>('cluster', 'status');
  expect(status.volumes).toMatchObject([{ state: 'mounted', domain: { members: [0, 1], recovering: [] } }]);
  expect(status.nodes).toMatchObject([{ number: 0, live: true, connection: { state: 'connected' } }, { number: 1, live: true }]);

  // Names and contents, both ways.
  await ours.do('echo from us > $M/u; for i in $(seq 50); do echo $i > $M/dir/o$i; done');
  expect(await kernel.must('cat /mnt/u; cat /mnt/dir/o* | sort -n | tail -n1')).toBe('from us\n50\n');
  await kernel.must('mv /mnt/u /mnt/dir/moved; echo and from the kernel >> /mnt/dir/moved; rm /mnt/dir/o1?');
  expect(await ours.do('cat $M/dir/moved; ls $M/dir/o* | wc -l; test ! -e $M/u')).toBe('from us\nand from the kernel\n40\n');
  await ours.do('mv $M/dir/moved $M/back; ln $M/back $M/dir/link; ln -s back $M/soft; truncate -s 100000 $M/k; rm $M/dir/o*');
  expect(await kernel.must('stat -c %h:%s /mnt/back; stat -c %s /mnt/k; readlink /mnt/soft; ls /mnt/dir')).toBe('2:28\n100000\nback\nlink\nnumbers\n');

  // Appending in turn, and a larger file written here and read there.
  for (let i = 0; i < 10; i++) {
    await kernel.must(`echo k${i} >> /mnt/turns`);
    await ours.do(`echo o${i} >> $M/turns`);
  }
  const turns = Array.from({ length: 10 }, (_, i) => `k${i}\no${i}\n`).join('');
  expect([await kernel.must('cat /mnt/turns'), await ours.do('cat $M/turns')]).toEqual([turns, turns]);
  const sum = await ours.do('dd if=/dev/urandom of=$M/big bs=1M count=16 status=none; md5sum < $M/big');
  expect(await kernel.must('md5sum < /mnt/big')).toBe(sum);
  await kernel.must('dd if=/dev/urandom of=/mnt/big bs=64k seek=7 count=30 conv=notrunc status=none');
  expect(await ours.do('md5sum < $M/big')).toBe(await kernel.must('md5sum < /mnt/big'));

  // What is written through mappings, dirty and not synced, is seen on the other side by mappings and by read(2).
  if (canMap) {
    await kernel.must('head -c 1048576 /dev/zero | tr "\\0" k > /mnt/mapped');
    const here = await Mapping.of(cleanup, path.join(ours.mount, 'mapped'), 1 << 20), there = await KernelMapping.of(kernel, '/mnt/mapped', 1 << 20);
    expect([await here.ask('get 0 1048576'), await there.ask('get 0 1048576')]).toEqual(['k:1048576', 'k:1048576']);
    for (let i = 0; i < 6; i++) {
      const [from, to] = i % 2 ? [here, there] : [there, here], letter = String.fromCharCode(97 + i);
      expect(await from.ask(`put ${i * 3000} ${letter} 5000`)).toBe('put');
      expect(await to.ask(`get ${i * 3000} 5000`)).toBe(`${letter}:5000`);
    }
    await here.ask('put 500000 y 100000');
    expect(await kernel.must('dd if=/mnt/mapped bs=1000 skip=500 count=100 status=none | tr -d y | wc -c')).toBe('0\n');
    await there.ask('put 600000 z 100000');
    expect(await ours.do('dd if=$M/mapped bs=1000 skip=600 count=100 status=none | tr -d z | wc -c')).toBe('0\n');
    await Promise.all([here.ask('end'), there.ask('end')]);
    // Both count in the same pages, under flock(2).
    await ours.do('head -c 16384 /dev/zero > $M/counters');
    const counting = kernel.must('perl /tmp/mapping.pl /mnt/counters 16384 count 60 0.7', { timeoutMs: 200_000 });
    expect(await ours.do(`perl ${MAPPING_SCRIPT} $M/counters 16384 count 60 0.7`, 200)).toBe('counted\n');
    expect(await counting).toBe('counted\n');
    const sum = 'perl -e \'local $/; $all = <>; $n += unpack("Q", substr($all, $_ * 4096, 8)) for 0..3; print $n\' ';
    expect([await ours.do(`${sum} $M/counters`), await kernel.must(`${sum} /mnt/counters`)]).toEqual(['120', '120']);
    await ours.do('rm $M/mapped $M/counters');
  }

  // A file that is open here is unlinked there, and stays until it is closed.
  const reader = ours.do(`exec 3< $M/back; touch ${ours.directory}/open; while [ -e ${ours.directory}/open ]; do sleep 0.1; done; cat <&3`);
  await ours.do(`until [ -e ${ours.directory}/open ]; do sleep 0.1; done`);
  await kernel.must('rm /mnt/back /mnt/dir/link /mnt/soft');
  await ours.do(`test ! -e $M/back && rm ${ours.directory}/open`);
  expect(await reader).toBe('from us\nand from the kernel\n');
  expect(await ours.do('ls $M')).toBe('big\ndir\nk\nlost+found\nturns\n');

  // The main thread of lunfsd, then of the volume process, stands still for longer than a connection may be idle: to the kernel the host lives on, and what it asked
  // for meanwhile it gets afterwards.
  const { pid, volumes: [{ pid: volume }] } = await ours.json<Status>('cluster', 'status');
  await kernel.must('mount -t debugfs none /sys/kernel/debug');
  for (const [i, still] of [pid, volume].entries()) {
    await ours.do(`echo ours > $M/still${i}`);
    const stood = ours.standStill(still);
    expect(await kernel.must(`echo kernel >> /mnt/still${i} && cat /mnt/still${i} && cat /sys/kernel/debug/o2hb/livenodes`)).toMatch(/^ours\nkernel\n0 1 ?\n$/);
    await stood;
    expect(await ours.do(`cat $M/still${i}; rm $M/still${i}`)).toBe('ours\nkernel\n');
  }
  expect(await kernel.must('dmesg')).not.toMatch(/(o2dlm|ocfs2): .*(evict|recover)/i);
  expect((await ours.json<Status>('cluster', 'status')).volumes).toMatchObject([{ state: 'mounted', pid: volume, domain: { members: [0, 1], recovering: [] } }]);

  await ours.must('umount', ours.mount);
  await kernel.must('echo alone > /mnt/alone');
  await ours.mountVolume();
  expect(await ours.do('cat $M/alone')).toBe('alone\n');
  await kernel.umount('/mnt');
  await ours.do('echo last > $M/last');
  await ours.must('down');
  expect(await kernel.complaints()).toEqual(complained);
  await kernel.shutdown();
  await mustBeClean(lun);
});
