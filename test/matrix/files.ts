/** Files and directories of a volume of the matrix: deep extent trees filled in random order, unwritten and punched files, wide directories. */
import type { Site } from './site.js';

export async function fillFiles(site: Site, top: string): Promise<void> {
  const { tree, scale } = site;
  await plain(site, top);
  await interleaved(site, top);
  if (site.sparse) await deep(site, `${top}/deep`);
  await tree.mkdir(`${top}/wide`);
  for (let i = 0; i < scale.entries; i++) {
    const path = `${top}/wide/entry number ${i}`, other = i % scale.links;
    await (other === 0 ? tree.create(path) : tree.link(`${top}/wide/entry number ${i - other}`, path));
  }
  for (let i = 0; i < scale.entries; i += 5) await tree.unlink(`${top}/wide/entry number ${i}`);
}

/** Files of a few pieces: inline, grown, written beyond their end, cut; directories in each other. */
async function plain({ tree, cluster }: Site, top: string): Promise<void> {
  await tree.create(`${top}/inline`, 'a few bytes');
  await tree.create(`${top}/text`, 'a line of text that repeats\n'.repeat(3000));
  await tree.create(`${top}/beyond`, 'begin');
  await tree.write(`${top}/beyond`, 2 * cluster + 7, 'after a gap');
  await tree.truncate(`${top}/beyond`, 3 * cluster + 100);
  await tree.create(`${top}/cut`, Buffer.alloc(2 * cluster + 5, 'cut '));
  await tree.truncate(`${top}/cut`, cluster + 3);
  await tree.truncate(`${top}/cut`, 2 * cluster);
  await tree.symlink('x'.repeat(1000), `${top}/link`);
  await tree.mkdir(`${top}/empty`);
  let below = `${top}/below`;
  await tree.mkdir(below);
  for (let i = 0; i < 20; i++) await tree.mkdir((below += `/${i}`));
  await tree.create(`${below}/bottom`, 'twenty directories down');
}

/** Two files that grow in turns, so that neither is in one piece. */
async function interleaved({ tree, cluster, writable }: Site, top: string): Promise<void> {
  const names = [`${top}/even`, `${top}/odd`];
  for (const name of names) await tree.create(name);
  for (let i = 0; i < Math.min(120, writable); i++) await tree.write(names[i % 2], 'append', Buffer.alloc(cluster, `turn ${i} `));
}

/** One record in every other cluster, put in at random; some written, some taken out again. */
async function deep(site: Site, path: string): Promise<void> {
  const { tree, cluster, writable } = site;
  const count = Math.min(site.scale.extents, Math.floor(site.geo.totalClusters / 5), site.unwritten ? Number.POSITIVE_INFINITY : 8 * writable);
  await tree.create(path);
  for (const i of site.shuffled(count)) {
    if (site.unwritten) await tree.fallocate(path, 'reserve', 2 * i * cluster, cluster);
    else await tree.write(path, 2 * i * cluster + 11, `record ${i}`);
  }
  if (!site.unwritten) return;
  const order = site.shuffled(count);
  for (const i of order.slice(0, Math.min(count / 5, writable))) await tree.write(path, 2 * i * cluster + 17, `written ${i}`);
  for (const i of order.slice(Math.ceil(-count / 20))) await tree.fallocate(path, 'punch', 2 * i * cluster, cluster, true);
  for (const i of order.slice(0, 10)) await tree.fallocate(path, 'zero', 2 * i * cluster + 5, cluster, true);
}

/** What both sides made, changed by us. */
export async function changeFiles(site: Site): Promise<void> {
  const { tree, cluster } = site;
  await tree.write('theirs/text', 100, 'changed by us');
  await tree.write('theirs/text', 'append', 'appended by us\n'.repeat(500));
  await tree.write('theirs/beyond', 5 * cluster, 'further');
  for (let i = 1; i < 40; i += 4) await tree.unlink(`theirs/wide/file-${i}`);
  for (let i = 1; i < 60; i++) await tree.create(`theirs/wide/of ours ${i}`);
  await tree.rename('theirs/wide', 'ours/empty/wide');
  await tree.truncate('theirs/a', 4000);
  await tree.unlink('theirs/b');
  await tree.unlink('ours/even');
  await tree.write('ours/odd', 'append', 'the end');
  if (!site.sparse) return;
  for (const i of site.shuffled(30)) await tree.write('ours/deep', (2 * i + 1) * cluster + 5, `odd ${i}`);
  await tree.truncate('ours/deep', 200 * cluster + 1);
  for (const i of site.shuffled(100).slice(0, 30)) await tree.write('theirs/deep', 2 * i * cluster + 100, `ours ${i}`);
  if (!site.unwritten) return;
  for (let i = 3; i < 90; i += 7) await tree.fallocate('theirs/deep', 'punch', 2 * i * cluster, 2 * cluster, true);
  for (let i = 4; i < 90; i += 11) await tree.fallocate('theirs/deep', 'reserve', (2 * i + 1) * cluster, cluster);
}
