/** Files of a volume of the matrix that share clusters: clones rewritten in part, cut, punched, grown, cloned again, and left when their source goes. */
import { shareRange } from '@lunfs/ocfs2';
import type { Site } from './site.js';

export async function fillClones(site: Site, top: string): Promise<void> {
  const { tree, cluster } = site;
  await tree.mkdir(top);
  if (!site.geo.refcount) return;
  // Each has a copy of a cluster or two, and all of it is read of each: few and small ones where clusters are large.
  const most = Math.floor((site.scale.bytes * 8) / cluster);
  const count = Math.max(7, Math.min(site.scale.clones, most));
  const clusters = Math.max(3, Math.min(20, site.writable, Math.floor(most / count)));
  const base = `${top}/base`;
  await tree.create(base, site.bytes(clusters * cluster - 100));
  await tree.write(base, (clusters + 2) * cluster + 5, 'behind a hole');
  if (site.unwritten) await tree.fallocate(base, 'reserve', (clusters + 4) * cluster, 3 * cluster);
  if (site.geo.xattr) {
    for (const [name, length] of [['user.small', 20], ['user.outside', 3000]] as const) await tree.volume.names.setXattr(await tree.resolve(base), Buffer.from(name), site.bytes(length));
  }
  for (let i = 0; i < count; i++) {
    const path = `${top}/clone-${i}`;
    await tree.reflink(i > 6 && i % 7 === 6 ? `${top}/clone-${i - 1}` : base, path);
    await changeClone(site, path, i, clusters);
  }
  for (let i = 3; i < count; i += 8) await tree.unlink(`${top}/clone-${i}`);
  // Whoever shared with it has its clusters now.
  await tree.reflink(base, `${top}/kept`);
  await tree.unlink(base);
  await tree.create(`${top}/inline`, 'nothing to share');
  await tree.reflink(`${top}/inline`, `${top}/inline too`);
  await ranges(site, top);
}

/** One clone in four stays as it is. */
async function changeClone(site: Site, path: string, i: number, clusters: number): Promise<void> {
  const { tree, cluster } = site;
  const at = Math.floor(site.random() * (clusters - 1)) * cluster;
  switch (i % 8) {
    case 0: return tree.write(path, at + 100, `rewritten in the middle of clone ${i}`);
    case 1: return tree.truncate(path, at + 77);
    case 2: return site.unwritten ? tree.fallocate(path, 'punch', at + 9, cluster + 50, true) : tree.write(path, at, site.bytes(cluster));
    case 4: return tree.write(path, 'append', `more of clone ${i}`);
    case 5: return site.unwritten ? tree.fallocate(path, 'zero', at, cluster * 2) : tree.truncate(path, (clusters + 3) * cluster);
    case 7: return tree.write(path, 0, site.bytes(2 * cluster + 11));
    default: return;
  }
}

/** Pieces of files shared, as copy_file_range does. */
async function ranges(site: Site, top: string): Promise<void> {
  const { tree, cluster } = site;
  await tree.create(`${top}/source`, site.bytes(4 * cluster));
  await tree.create(`${top}/target`, site.bytes(2 * cluster));
  const [source, target] = [await tree.resolve(`${top}/source`), await tree.resolve(`${top}/target`)];
  for (const [from, to] of [[1, 0], [2, 5], [0, 7]]) await shareRange(tree.volume.ctx, { source, target, from: from * cluster, to: to * cluster, length: cluster });
  await tree.write(`${top}/source`, 2 * cluster + 9, 'after it was shared');
}

/** Clones of both sides, changed, cloned and removed by us. */
export async function changeClones(site: Site): Promise<void> {
  if (!site.geo.refcount) return;
  const { tree, cluster } = site;
  await tree.reflink('theirs/clones/base', 'theirs/clones/by us');
  await tree.write('theirs/clones/by us', cluster + 5, 'in our clone of theirs');
  await tree.write('theirs/clones/base', 5, 'in the source of theirs');
  await tree.write('theirs/clones/clone-0', 'append', 'at its end');
  await tree.truncate('theirs/clones/clone-1', 3000);
  await tree.unlink('theirs/clones/clone-2');
  await tree.unlink('ours/clones/kept');
  await tree.write('ours/clones/of Linux', 3, 'in a clone of ours by Linux');
  for (const i of [0, 4]) await tree.unlink(`ours/clones/clone-${i}`);
}
