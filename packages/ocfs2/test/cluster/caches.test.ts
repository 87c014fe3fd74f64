/**
 * Caches above a mount, as a kernel's page cache is one: a page is locked while it is filled, dropping it waits for that lock,
 * and filling it waits for cluster locks. No circle, and nobody sees old pages once another node has changed the file.
 */
import { Random } from '@lunfs/device';
import { expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { type HostCaches, SharedFile, writeFile } from '../../src/volume/index.js';
import { type ClusterNode, TestCluster } from '../support/cluster.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

const PAGE = 4096, PAGES = 8;

/** Pages of one file, filled by whoever reads and does not find them. */
class PageCache implements HostCaches {
  readonly #pages = new Map<number, { content: Uint8Array; filled: Promise<void> }>();
  drops = 0;

  constructor(private readonly node: ClusterNode, private readonly ino: number) {}

  drop(ino: number): Promise<void> | undefined {
    return ino === this.ino ? this.#drop() : undefined;
  }

  /** Page by page, as invalidate_inode_pages2 does: each is waited for, and those behind stay whatever comes there. */
  async #drop(): Promise<void> {
    this.drops++;
    for (let index = 0; index < PAGES; index++) {
      const page = this.#pages.get(index);
      if (page === undefined) continue;
      await page.filled;
      this.#pages.delete(index);
    }
  }

  async read(index: number): Promise<number> {
    let page = this.#pages.get(index);
    if (page === undefined) {
      const content = new Uint8Array(PAGE);
      const file = new SharedFile(this.node.volume.ctx, this.ino, undefined);
      const load = async (): Promise<void> => {
        await file.load();
        await file.backend({ readOnly: true, survives: false }).read(index * PAGE, content);
      };
      page = { content, filled: load() };
      this.#pages.set(index, page);
    }
    await page.filled;
    return new Uint32Array(page.content.buffer)[0];
  }
}

test('pages are dropped before another node writes, while they are being filled too', { timeout: 120_000 }, async () => {
  const random = new Random(seed('caches'));
  const cluster = await TestCluster.make(random.u32());
  const nodes = [await cluster.mount(1), await cluster.mount(2), await cluster.mount(3)];
  const { names } = nodes[0].volume;
  const ino = (await names.create(names.root, bytes('f'), FILE)).blkno;
  await writeFile(nodes[0].volume.ctx, ino, 0, new Uint8Array(PAGES * PAGE));
  const caches = nodes.map((node) => new PageCache(node, ino));
  for (const [i, node] of nodes.entries()) node.volume.caches = caches[i];
  /** Value of the last write of each page that has ended, and the highest one begun. */
  const written = new Array<number>(PAGES).fill(0);
  let value = 0, writing = true;
  const readers = caches.flatMap((cache) => [0, 1, 2].map(async () => {
    while (writing) {
      const index = random.int(PAGES);
      const least = written[index];
      const seen = await cache.read(index);
      expect(seen, `page ${index}`).toBeGreaterThanOrEqual(least);
      if (random.chance(0.5)) await new Promise((resolve) => setImmediate(resolve));
    }
  }));
  // One writer: a page's values only grow.
  for (let n = 0; n < 60; n++) {
    const index = random.int(PAGES), node = random.pick(nodes);
    value++;
    await writeFile(node.volume.ctx, ino, index * PAGE, new Uint8Array(new Uint32Array(PAGE / 4).fill(value).buffer));
    await caches[nodes.indexOf(node)].drop(ino); // its own host sees the write itself
    written[index] = value;
    for (let i = random.int(8); i > 0; i--) await new Promise((resolve) => setImmediate(resolve));
  }
  writing = false;
  await Promise.all(readers);
  expect(caches.reduce((sum, cache) => sum + cache.drops, 0)).toBeGreaterThan(60);
  await names.forget(ino);
  for (const node of nodes) await cluster.unmount(node);
  await expectFsckClean(cluster.lun);
});
