/** A host of ours mounts a volume beside a kernel node, by lunfsd and the command line: each sees at once what the other does. */
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ClusterLab } from '../support/cluster-lab.js';
import { LunfsHost } from '../support/lunfs-host.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

interface Status {
  readonly nodes: readonly { readonly number: number; readonly live: boolean; readonly connection?: { readonly state: string } }[];
  readonly volumes: readonly { readonly state: string; readonly deadlineMs: number; readonly domain: { readonly members: number[]; readonly recovering: number[] } }[];
}

test('one volume, a kernel node and ours', { timeout: 480_000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'cluster'), 'lun');
  await mkfs(lun, { size: 512 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' });
  const lab = await ClusterLab.start(cleanup, { lun, count: 2, settings: { threshold: 7, idleMs: 5000 } });
  const host = await lab.host(1);
  const ours = new LunfsHost(cleanup, lab.config, lab.config.nodes[1], host.device, (command, args, options) => host.spawn(command, args, options));
  const kernel = await lab.kernelNode(0);
  await kernel.mount('/dev/vda', '/mnt');
  const complained = await kernel.complaints();

  // Without lunfsd a cluster's volume is refused, and the remedy named.
  const refused = await ours.run('mount', ours.device, ours.mount);
  expect([refused.code, refused.stderr]).toEqual([32, expect.stringContaining('lunfs up')]);
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

  // A file that is open here is unlinked there, and stays until it is closed.
  const reader = ours.do(`exec 3< $M/back; touch ${ours.directory}/open; while [ -e ${ours.directory}/open ]; do sleep 0.1; done; cat <&3`);
  await ours.do(`until [ -e ${ours.directory}/open ]; do sleep 0.1; done`);
  await kernel.must('rm /mnt/back /mnt/dir/link /mnt/soft');
  await ours.do(`test ! -e $M/back && rm ${ours.directory}/open`);
  expect(await reader).toBe('from us\nand from the kernel\n');
  expect(await ours.do('ls $M')).toBe('big\ndir\nk\nlost+found\nturns\n');

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
