/**
 * A volume filled to its last cluster, thinned out, and filled again of smaller things: reserved where extents can be
 * unwritten, written where not.
 */
import { LunfsError } from '@lunfs/device';
import type { Site } from './site.js';

const noSpace = (error: unknown): boolean => error instanceof LunfsError && error.code === 'NO_SPACE';

export async function fillUp(site: Site): Promise<void> {
  const { tree, cluster, unwritten } = site;
  await tree.mkdir('full');
  const n = await takeAll(site, 'full', 0);
  await expectFull(site);
  for (let i = 1; i < n; i += 3) await tree.unlink(`full/${i}`);
  for (let i = 0; unwritten && i < n; i += 6) for (let k = 1; k < 60; k += 2) await tree.fallocate(`full/${i}`, 'punch', k * cluster, cluster, true);
  if (!unwritten) for (let i = 0; i < n; i += 6) await tree.truncate(`full/${i}`, cluster + 1);
  await tree.mkdir('again');
  for (let i = 0; i < 150; i++) await tree.create(`again/file-${i}`, i % 5 === 0 ? `content ${i}` : '');
  await tree.create('again/deep');
  for (const i of site.shuffled(Math.min(200, Math.floor(site.geo.totalClusters / 16)))) {
    if (unwritten) await tree.fallocate('again/deep', 'reserve', 3 * i * cluster, cluster);
  }
  await tree.mkdir('again/full');
  const m = await takeAll(site, 'again/full', 0);
  await expectFull(site);
  // Room for what comes, of which little is read by Linux: what was written is too much for it.
  for (let i = 0; i < m; i++) if (!unwritten || i % 4 !== 1) await tree.unlink(`again/full/${i}`);
  for (let i = 0; i < n; i++) if (i % 3 !== 1 && (unwritten ? i % 3 === 0 : i > 0)) await tree.unlink(`full/${i}`);
}

/** Files in `top` until nothing is free, ever smaller ones; returns how many there are. */
async function takeAll({ tree, cluster, unwritten }: Site, top: string, from: number): Promise<number> {
  let n = from;
  const { freeBlocks, blockSize } = await tree.volume.names.statistics();
  let clusters = Math.max(1, Math.floor((freeBlocks * blockSize) / 30 / cluster));
  const zeroes = Buffer.alloc(unwritten ? 0 : Math.min(clusters * cluster, 8 << 20));
  for (;;) {
    try {
      await tree.create(`${top}/${n}`);
      n++;
      const size = clusters * cluster;
      if (unwritten) await tree.fallocate(`${top}/${n - 1}`, 'reserve', 0, size, true);
      else for (let at = 0; at < size; at += zeroes.length) await tree.write(`${top}/${n - 1}`, at, zeroes.subarray(0, Math.min(zeroes.length, size - at)));
    } catch (error) {
      if (!noSpace(error)) throw error;
      if (clusters === 1) return n;
      clusters = Math.max(1, clusters >> 3);
    }
  }
}

/** Nothing more fits, and what is tried leaves no trace. */
async function expectFull({ tree, cluster, unwritten }: Site): Promise<void> {
  const touched = ['ours/text', 'ours/inline', 'ours/empty'];
  const state = async () => {
    const trees: unknown[] = [];
    for (const path of touched) trees.push([...(await tree.manifest(path))]);
    return JSON.stringify([await tree.volume.names.statistics(), trees]);
  };
  const before = await state();
  const tried: [string, () => Promise<unknown>][] = [
    ['writing', () => tree.write('ours/text', 40 * cluster, 'there is no cluster for it')],
    ['growing out of the inode', () => tree.write('ours/inline', 'append', Buffer.alloc(5 * cluster))],
    ['a symlink', () => tree.symlink('x'.repeat(4000), `ours/empty/${'n'.repeat(250)}`)],
  ];
  if (unwritten) tried.push(['reserving', () => tree.fallocate('ours/text', 'reserve', 0, 10 * 2 ** 30, true)]);
  for (const [what, work] of tried) {
    const error: unknown = await work().then(() => new Error(`${what} found room on a full volume`), (reason: unknown) => reason);
    if (!noSpace(error)) throw error;
    const after = await state();
    if (after !== before) throw new Error(`${what}: what did not fit left a trace: ${before} became ${after}`);
  }
}
