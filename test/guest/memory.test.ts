/**
 * lunfs on a host with little memory: a machine of 384 MiB serves a mount to itself and writes more than its memory through it, by shared mappings and by write(2) at once, all of which
 * are dirty pages first (`-o writeback`). The kernel can only get memory back by having lunfs write them, for which lunfs needs memory: nobody may wait for the other for ever.
 * The data is read back through the mount, and then by Linux's own OCFS2.
 * (Shared mappings of a member's mount need Linux 6.6: packages/host/test/oracle/mapped.test.ts.)
 */
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { lunfsOn, makeLunfsDisk } from '../support/lunfs-disk.js';
import { KernelNode } from '../support/machines.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';

const MEMORY_MIB = 384;
/** By mappings; by write(2). Together more than the memory. */
const MAPPED_MIB = 256;
const WRITTEN_MIB = 192;

const cleanup = new Cleanup();
afterAll(() => cleanup.run(), 120_000);

/** Both at once; each block holds its own offset. `only`: what is there is verified, and nothing written. */
function fio(directory: string, only: boolean): string {
  const job = (name: string, engine: string, mib: number): string =>
    `fio --name=${name} --filename=${directory}/${name} --ioengine=${engine} --rw=write --bs=64k --size=${mib}m --verify=pattern --verify_pattern=%o --verify_fatal=1 --thread --minimal ${only ? '--verify_only' : '--do_verify=0'} > /tmp/${name}.out 2>&1`;
  return `${job('mapped', 'mmap', MAPPED_MIB)} & first=$!; ${job('written', 'psync', WRITTEN_MIB)}; second=$?; wait $first && [ $second = 0 ] || { cat /tmp/*.out >&2; dmesg | tail -n 40 >&2; exit 1; }`;
}

test('a host with less memory than is written through its mount', { timeout: 900_000 }, async () => {
  const directory = tempDir(cleanup, 'memory');
  const lun = path.join(directory, 'lun');
  await mkfs(lun, { size: 2 * 2 ** 30, blockSize: 4096, clusterSize: 65536, slots: 2 });
  const program = await makeLunfsDisk(path.join(directory, 'lunfs'));
  const node = await KernelNode.start(cleanup, { disks: [lun, { file: program, readOnly: true, direct: false }], memoryMiB: MEMORY_MIB });
  const lunfs = await lunfsOn(node, '/dev/vdb');
  const number = async (command: string): Promise<number> => Number(await node.must(command));
  expect(await number("awk '/^MemTotal:/ { print $2 }' /proc/meminfo")).toBeLessThan((MAPPED_MIB + WRITTEN_MIB) * 1024);
  const reclaimed = "awk '/^pgscan_(kswapd|direct) / { n += $2 } END { print n }' /proc/vmstat";
  await node.must(`mkdir -p /tmp/m && ${lunfs} mount -o writeback /dev/vda /tmp/m`, { timeoutMs: 400_000 });
  const before = await number(reclaimed);
  await node.must(fio('/tmp/m', false), { timeoutMs: 400_000 });
  expect(await number(reclaimed), 'pages the kernel looked at to get memory back').toBeGreaterThan(before);
  await node.must(fio('/tmp/m', true), { timeoutMs: 400_000 });
  await node.must('umount /tmp/m; while pidof node > /dev/null; do sleep 0.2; done', { timeoutMs: 200_000 });
  expect(await node.must('cat /run/lunfs/*.log')).toBe('');
  expect(await node.must('dmesg')).not.toMatch(/Out of memory|oom-kill|blocked for more than/);
  await node.mount('/dev/vda', '/mnt/k');
  await node.must(fio('/mnt/k', true), { timeoutMs: 400_000 });
  await node.shutdown();
  await mustBeClean(lun);
});
