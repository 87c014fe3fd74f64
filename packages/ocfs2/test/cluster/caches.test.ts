/** A cache above a mount: told before another node may change what it holds, it never shows anything old. */
import { Random } from '@lunfs/device';
import { expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { type HostCaches, readFile, writeFile } from '../../src/volume/index.js';
import { type ClusterNode, TestCluster } from '../support/cluster.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

const PAGE = 4096, PAGES = 4;

/** Pages of one file. What was read before a drop does not come in after it. */
class PageCache implements HostCaches {
  readonly #pages = new Map<number, number>();
  #generation = 0;
  hits = 0;

  constructor(private readonly node: ClusterNode, private readonly ino: number) {}

  drop(ino: number): Promise<void> | undefined {
    if (ino !== this.ino) return undefined;
    this.#generation++;
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#pages.clear();
        resolve();
      });
    });
  }

  async read(index: number): Promise<number> {
    const cached = this.#pages.get(index);
    if (cached !== undefined) {
      this.hits++;
      return cached;
    }
    const generation = this.#generation, content = new Uint8Array(PAGE);
    await readFile(this.node.volume.ctx, this.ino, index * PAGE, content);
    const value = new Uint32Array(content.buffer)[0];
    if (generation === this.#generation) this.#pages.set(index, value);
    return value;
  }
}

test('what a host caches is dropped before another node writes', { timeout: 120_000 }, async () => {
  const random = new Random(seed('caches'));
  const cluster = await TestCluster.make(random.u32());
  const nodes = [await cluster.mount(1), await cluster.mount(2), await cluster.mount(3)];
  const { names } = nodes[0].volume;
  const ino = (await names.create(names.root, bytes('f'), FILE)).blkno;
  await writeFile(nodes[0].volume.ctx, ino, 0, new Uint8Array(PAGES * PAGE));
  const caches = nodes.map((node) => new PageCache(node, ino));
  for (const [i, node] of nodes.entries()) node.volume.caches = caches[i];
  /** Value of the last write of each page that has ended; one writer, so they only grow. */
  const written = new Array<number>(PAGES).fill(0);
  let writing = true;
  const readers = caches.map(async (cache) => {
    while (writing) {
      const index = random.int(PAGES), least = written[index];
      expect(await cache.read(index), `page ${index}`).toBeGreaterThanOrEqual(least);
      if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
    }
  });
  for (let value = 1; value <= 60; value++) {
    const index = random.int(PAGES), at = random.int(nodes.length);
    await writeFile(nodes[at].volume.ctx, ino, index * PAGE, new Uint8Array(new Uint32Array(PAGE / 4).fill(value).buffer));
    await caches[at].drop(ino); // its own host sees its own write
    written[index] = value;
    for (let i = random.int(20); i > 0; i--) await new Promise((resolve) => setImmediate(resolve));
  }
  writing = false;
  await Promise.all(readers);
  for (const cache of caches) expect(cache.hits).toBeGreaterThan(0);
  await names.forget(ino);
  for (const node of nodes) await cluster.unmount(node);
  await expectFsckClean(cluster.lun);
});
