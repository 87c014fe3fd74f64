/**
 * A Linux node mounts volumes as a power failure of ours left them, unrecovered: it replays our journal, empties our
 * truncate log and local alloc, wipes our orphans. The tree it shows, attributes included, must be the one our own recovery shows of the same
 * image, which must be one the script allows; after its unmount fsck.ocfs2 must find nothing.
 * LUNFS_SEED=… repeats a run.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { Random, prefixImages, reorderedImages } from '@lunfs/device';
import { afterAll, expect, test } from 'vitest';
import { CRASH_VOLUMES, MAY_BE_LEFT, type Recorded, checkImage, record } from '../../packages/ocfs2/test/support/crash.js';
import { SCRIPTS, playground, randomSteps } from '../../packages/ocfs2/test/support/crash-scripts.js';
import type { Found } from '../../packages/ocfs2/test/support/posix.js';
import { writeOut } from '../../packages/ocfs2/test/support/volume.js';
import { type Attributes, attributesOf } from '../kernel/attributes.js';
import { KernelNode } from '../support/machines.js';
import { KNOWN_FALSE_POSITIVES, fsck } from '../support/ocfs2-tools.js';
import { Cleanup, seed, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

/** What the node's listing of a tree says, one line per path. */
function listing(tree: ReadonlyMap<string, Found>): string[] {
  return [...tree].map(([name, { kind, links, target, content, attributes: { mode, uid, gid, rdev } }]) => {
    const device = `${((rdev >> 8) & 0xfff).toString(16)} ${((rdev & 0xff) | ((rdev >> 12) & 0xfff00)).toString(16)}`;
    const what = kind === 'symlink' ? target : kind === 'file' ? `${content.length} ${createHash('sha256').update(content).digest('hex')}` : kind === 'device' ? device : '';
    return `${name}|${kind}|${links}|${mode.toString(8)} ${uid} ${gid}|${what}`;
  }).sort();
}

/** Attributes of a tree, each as path, name and value. */
function attributesOfTree(tree: ReadonlyMap<string, Found>): string[] {
  return [...tree].flatMap(([path, { xattrs }]) => [...xattrs].map(([name, value]) => `${path}|${name}|${Buffer.from(value).toString('hex')}`)).sort();
}

/** The same of what a node told. */
function told(attributes: Attributes): string[] {
  const utf8 = (bytes: string): string => Buffer.from(bytes, 'latin1').toString();
  return [...attributes].flatMap(([path, values]) => [...values].map(([name, value]) => `${path === '.' ? '' : utf8(path)}|${utf8(name)}|${value.toString('hex')}`)).sort();
}

/** The same of a directory, in the node, with as few programs as can be: each takes long to start under emulation. */
const LIST = `find . -mindepth 0 | while IFS= read -r f; do
  n=\${f#.}; n=\${n#/}; set -- $(stat -c '%h %a %u %g %s %t %T' "$f"); a="$1|$2 $3 $4"
  if [ -L "$f" ]; then echo "$n|symlink|$a|$(readlink "$f")"; elif [ -d "$f" ]; then echo "$n|directory|$a|"
  elif [ -c "$f" ]; then echo "$n|device|$a|$6 $7"; else h=$(sha256sum < "$f"); echo "$n|file|$a|$5 \${h%% *}"; fi
done`;

test('a kernel node recovers what a power failure left of our volumes', { timeout: 560_000 }, async () => {
  const start = seed('crash images for the kernel');
  const random = new Random(start);
  const directory = tempDir(cleanup, 'crash');
  const images: { name: string; file: string; want: string[]; attributes: string[] }[] = [];
  const add = async (name: string, recorded: readonly Recorded[], ordered: boolean): Promise<void> => {
    const [{ recording }] = recorded;
    const point = Math.floor(recording.log.length * (0.3 + 0.65 * random.float()));
    const lost = [...reorderedImages(recording, random, { select: (p) => p === point })];
    const kept = ordered ? [...prefixImages(recording, (p) => Math.abs(p - point) < 8)].slice(0, 1) : [];
    for (const image of [...lost, ...kept]) {
      const file = writeOut(image.device, path.join(directory, `${images.length}.img`));
      const what = `${name}, crash at ${image.point}${image.seed === undefined ? '' : `, seed ${image.seed}`}`;
      const tree = await checkImage(recorded, image);
      images.push({ name: what, file, want: listing(tree), attributes: attributesOfTree(tree) });
    }
  };
  // A volume of a cluster carries our mark until we recover it: a node refuses it, so there is nothing to compare.
  for (const [i, spec] of CRASH_VOLUMES.filter(({ mkfs }) => mkfs.mount === 'local').entries()) {
    const geometry = { size: spec.size, blockSize: spec.mkfs.blockSize!, clusterSize: spec.mkfs.clusterSize! };
    const script = SCRIPTS[(start + i) % SCRIPTS.length];
    await add(`${spec.name} ${script.name}`, [await record(spec, script.steps(geometry), start)], true);
    const steps = [...playground(), ...randomSteps(random.fork(), 130, { reach: 6 * geometry.clusterSize, clusterSize: geometry.clusterSize })];
    await add(`${spec.name} random steps`, [await record(spec, steps, start)], false);
  }

  const node = await KernelNode.start(cleanup, { disks: images.map(({ file }) => file) });
  for (const [i, { name, want, attributes }] of images.entries()) {
    const device = `/dev/vd${String.fromCharCode(97 + i)}`;
    // Twice: the node reads the root's dinode before it replays (Linux 6.1 fs/ocfs2/super.c:ocfs2_initialize_super), and on
    // a local volume shows what it was then, until the next mount.
    await node.mount(device, '/mnt/lun');
    await node.umount('/mnt/lun');
    await node.mount(device, '/mnt/lun');
    const got = (await node.must(`cd /mnt/lun && ${LIST}`)).split('\n').filter(Boolean).sort();
    expect(got, `LUNFS_SEED=${start}: ${name}`).toEqual(want);
    expect(told(await attributesOf(node, '/mnt/lun')), `LUNFS_SEED=${start}: attributes, ${name}`).toEqual(attributes);
    await node.umount('/mnt/lun');
  }
  await node.shutdown();
  for (const { name, file } of images) {
    const { findings } = await fsck(file, [...KNOWN_FALSE_POSITIVES, ...MAY_BE_LEFT]);
    expect(findings, `LUNFS_SEED=${start}: ${name}`).toEqual([]);
  }
  console.log(`kernel: ${images.length} crash images recovered, read and checked`);
});
