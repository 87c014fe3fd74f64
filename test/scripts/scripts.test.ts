/**
 * The shell scripts of cases/ run on a lunfs mount of this host and on Linux's OCFS2 in a node, whose programs are copies of
 * this host's. What they print must be the same, and what they leave, but for inode numbers and times; then each side reads
 * the other's volume, where those must be the same too.
 */
import fs from 'node:fs';
import path from 'node:path';
import { openDevice } from '@lunfs/device';
import { startVolumeProcess } from '@lunfs/host';
import { checkVolume } from '@lunfs/ocfs2';
import { afterAll, describe, expect, test } from 'vitest';
import { type Tree, expectSameTree } from '../support/engine-tree.js';
import { KernelNode } from '../support/machines.js';
import { hostTree, nodeTree } from '../support/node-tree.js';
import { KNOWN_FALSE_POSITIVES, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, exec, must, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'scripts');
fs.chmodSync(directory, 0o755); // other users reach the mount
process.env.LUNFS_RUN_DIR = path.join(directory, 'run');
const CASES = fs.readdirSync(path.join(import.meta.dirname, 'cases')).map((file) => path.basename(file, '.sh'));
const lun = { lunfs: path.join(directory, 'lunfs.img'), linux: path.join(directory, 'linux.img') };
const mountPoint = path.join(directory, 'mnt');
const source = path.join(directory, 'source.tar');
let node: KernelNode;
/** What the scripts left, by case, as Linux said of its own volume and the mount of its own. */
const left = { lunfs: new Map<string, Tree>(), linux: new Map<string, Tree>() };

/** The script with what comes before it: errors are printed in their place, words are plain. */
function script(name: string, sourceTar: string): string {
  const text = fs.readFileSync(path.join(import.meta.dirname, 'cases', `${name}.sh`), 'utf8');
  return `export LC_ALL=C TZ=UTC SOURCE=${sourceTar}; umask 022; mkdir "$1" && cd "$1" || exit; exec 2>&1\n${text}`;
}

async function mountHere(image: string): Promise<() => Promise<void>> {
  fs.mkdirSync(mountPoint, { recursive: true });
  const mounted = await startVolumeProcess({ device: image, mount: { directory: mountPoint, allowOther: true } });
  const undo = (): void => mounted.kill('SIGKILL');
  cleanup.add(undo);
  return async () => {
    await must('umount', [mountPoint]);
    expect(await mounted.exited).toEqual({ code: 0, signal: null });
  };
}

async function clean(image: string): Promise<void> {
  await mustBeClean(image, KNOWN_FALSE_POSITIVES);
  const device = await openDevice(image);
  const { findings } = await checkVolume(device);
  await device.close();
  expect(findings.filter(({ code }) => !KNOWN_FALSE_POSITIVES.includes(code))).toEqual([]);
}

/**
 * Without what may differ: inode numbers and times; and what a directory occupies, of which Linux has one cluster more than the
 * size asks for in some runs (seen with the 10,000 entries; fsck.ocfs2 and the verifier find both sides clean).
 */
function lasting(tree: Tree): Tree {
  return new Map([...tree].map(([file, line]) => [file, line.replace(/ mtime \S+ ctime \S+ inode \d+/, '').replace(/^(d .*) blocks \d+/, '$1')]));
}

describe('shell scripts', () => {
  let unmount: () => Promise<void>;
  test('find both mounts', { timeout: 120_000 }, async () => {
    await Promise.all([lun.lunfs, lun.linux].map((image) => mkfs(image, { size: 2 ** 30, blockSize: 4096, clusterSize: 4096, slots: 1 })));
    await must('tar', ['-C', path.resolve(import.meta.dirname, '../../packages/ocfs2'), '--sort=name', '--mtime=@1700000000', '--owner=0', '--group=0', '--numeric-owner', '-cf', source, 'src', 'test']);
    unmount = await mountHere(lun.lunfs);
    node = await KernelNode.start(cleanup, { disks: [lun.linux, lun.lunfs] });
    await node.mount('/dev/vda', '/mnt/lun');
    await node.must('cat > /tmp/source.tar', { input: fs.readFileSync(source) });
  });

  test.each(CASES)('%s', { timeout: 180_000 }, async (name) => {
    const onLinux = node.run(`bash -s -- /mnt/lun/${name}`, { input: script(name, '/tmp/source.tar'), timeoutMs: 170_000 });
    const started = performance.now();
    const onLunfs = exec('bash', ['--norc', '-s', '--', path.join(mountPoint, name)], { input: script(name, source), timeoutMs: 170_000 });
    const seconds = Promise.all([onLinux, onLunfs].map(async (one) => { await one; return ((performance.now() - started) / 1000).toFixed(1); }));
    const [theirs, ours] = [await onLinux, await onLunfs];
    console.log(`${name}: Linux ${(await seconds)[0]} s (in a machine), lunfs ${(await seconds)[1]} s`);
    expect(ours.stdout).toBe(theirs.stdout);
    expect(ours.stdout).not.toMatch(/not found|Input\/output error|No such device/);
    left.linux.set(name, await nodeTree(node, `/mnt/lun/${name}`));
    left.lunfs.set(name, await hostTree(path.join(mountPoint, name)));
    expectSameTree(lasting(left.lunfs.get(name)!), lasting(left.linux.get(name)!), name);
  });

  test("Linux reads the lunfs volume, lunfs reads Linux's", { timeout: 180_000 }, async () => {
    await unmount();
    await clean(lun.lunfs);
    await node.umount('/mnt/lun');
    await node.mount('/dev/vda', '/mnt/lun', 'ro');
    for (const name of CASES) left.linux.set(name, await nodeTree(node, `/mnt/lun/${name}`));
    await node.must('blockdev --flushbufs /dev/vdb');
    await node.mount('/dev/vdb', '/mnt/lunfs');
    for (const name of CASES) expectSameTree(await nodeTree(node, `/mnt/lunfs/${name}`), left.lunfs.get(name)!, `${name} of lunfs as Linux reads it`);
    await node.shutdown(/ocfs2_rename:\d+ ERROR: status = -39/); // a rename that was refused: ENOTEMPTY
    await clean(lun.linux);
    const unmountTheirs = await mountHere(lun.linux);
    for (const name of CASES) expectSameTree(await hostTree(path.join(mountPoint, name)), left.linux.get(name)!, `${name} of Linux as lunfs reads it`);
    await unmountTheirs();
    await clean(lun.linux);
    await clean(lun.lunfs);
  });
});
