/** The page caches of kernels above the mounts of one volume: whatever is mapped, written through mappings and truncated where, nobody sees anything old, and nobody waits for ever. */
import { Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { lockName } from '../../src/locking/index.js';
import { pageRead, truncateFile, whilePagesMayGo, writeFile } from '../../src/volume/index.js';
import { TestCluster } from '../support/cluster.js';
import { KernelPages, PAGE, readValue } from '../support/kernel-pages.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

const PAGES = 6;

async function turns(n = 200): Promise<void> {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** One at a time for each key. */
class Turns {
  readonly #last = new Map<number, Promise<unknown>>();

  run<T>(key: number, work: () => Promise<T>): Promise<T> {
    const mine = (this.#last.get(key) ?? Promise.resolve()).then(work);
    this.#last.set(key, mine.catch(() => undefined));
    return mine;
  }
}

describe('page caches above members', () => {
  for (const holes of [false, true]) {
    test(`mapped, written and truncated on three nodes${holes ? ', into holes' : ''}`, { timeout: 240_000 }, async () => {
      const random = new Random(seed(`caches ${holes}`));
      const cluster = await TestCluster.make(random.u32());
      const nodes = [await cluster.mount(1), await cluster.mount(2), await cluster.mount(3)];
      const [{ volume }] = nodes;
      const ino = (await volume.names.create(volume.names.root, bytes('f'), FILE)).blkno;
      const kernels = nodes.map((node) => new KernelPages(node.volume, ino));
      if (!holes) for (let i = 0; i < PAGES; i++) await kernels[0].write(i, 0);
      await kernels[0].truncate(PAGES * PAGE);
      for (const kernel of kernels) await kernel.open();
      // The third node only reads, now and then, and ends being a writer on the way.
      const values = new Array<number>(PAGES).fill(0), turns = new Turns();
      let busy = true;
      const steps = kernels.map(async (kernel, at) => {
        for (let step = 0; step < 60; step++) {
          const index = random.int(PAGES), kind = random.int(at === 2 ? 4 : 10);
          if (kind === 9) await kernel.truncate(PAGES * PAGE);
          else {
            await turns.run(index, async () => {
              const expected = values[index];
              if (kind < 2) expect(await kernel.mapRead(index), `page ${index}, mapped on node ${at + 1}`).toBe(expected);
              else if (kind === 2) expect(await kernel.read(index), `page ${index}, read on node ${at + 1}`).toBe(expected);
              else if (kind === 3) await kernel.flush(index);
              else {
                const change = (value: number): number => {
                  expect(value, `page ${index}, changed on node ${at + 1}`).toBe(expected);
                  return expected + 1;
                };
                if (kind < 7) await kernel.mapWrite(index, change);
                else await kernel.write(index, expected + 1);
                values[index]++;
              }
            });
          }
          for (let i = random.int(4); i > 0; i--) await new Promise((resolve) => setImmediate(resolve));
        }
      });
      // Threads that look at mapped pages without a rest must not keep a lock from going.
      const readers = kernels.map(async (kernel) => {
        const seen = new Array<number>(PAGES).fill(0);
        while (busy) {
          const index = random.int(PAGES), value = await kernel.mapRead(index);
          expect(value, `page ${index}`).toBeGreaterThanOrEqual(seen[index]);
          seen[index] = value;
          await new Promise((resolve) => setImmediate(resolve));
        }
      });
      await Promise.all(steps);
      busy = false;
      await Promise.all(readers);
      for (const kernel of kernels) {
        await kernel.close();
        expect(kernel.hits).toBeGreaterThan(0);
      }
      expect(kernels[0].writtenBack + kernels[1].writtenBack).toBeGreaterThan(0);
      for (let i = 0; i < PAGES; i++) expect(await readValue(nodes[2].volume, ino, i)).toBe(values[i]);
      await volume.names.forget(ino);
      for (const node of nodes) await cluster.unmount(node);
      await expectFsckClean(cluster.lun);
    });
  }

  test('a truncate that comes while the lock goes down from PR waits for that', async () => {
    const cluster = await TestCluster.make(22);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const { names, ctx } = a.volume;
    const { blkno } = await names.create(names.root, bytes('f'), FILE);
    await writeFile(ctx, blkno, 0, Buffer.alloc(9000, 'x'));
    let cut: Promise<void> | undefined, dropped = false;
    a.volume.caches = {
      drop: async () => {
        if (cut === undefined) {
          cut = whilePagesMayGo(ctx, blkno, 100, () => truncateFile(ctx, blkno, 100)).then(() => expect(dropped).toBe(true));
          await turns();
        }
        dropped = true;
      },
      pause: () => turns(20),
    };
    // Both have it at PR then.
    expect(await pageRead(b.volume.ctx, blkno, 0, new Uint8Array(8192))).toBe(8192);
    expect(await pageRead(ctx, blkno, 0, new Uint8Array(8192))).toBe(8192);
    cut = undefined;
    dropped = false;
    await writeFile(b.volume.ctx, blkno, 0, Buffer.from('y'));
    await cut!;
    const left = new Uint8Array(8192);
    expect([await pageRead(b.volume.ctx, blkno, 0, left), left[0], left[99]]).toEqual([100, 0x79, 0x78]);
    for (const node of [a, b]) await cluster.unmount(node);
    await expectFsckClean(cluster.lun);
  });

  test('a page that is read while its lock goes has all of an append whose size is seen', async () => {
    const cluster = await TestCluster.make(21);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const { names, ctx } = a.volume;
    const { blkno } = await names.create(names.root, bytes('f'), FILE);
    const content = Buffer.alloc(9000, 'x');
    await writeFile(ctx, blkno, 0, content.subarray(0, 5000));
    const page = new Uint8Array(8192);
    const read = async (): Promise<Buffer> => Buffer.from(page.subarray(0, await pageRead(ctx, blkno, 0, page)));
    expect(await read()).toHaveLength(5000);
    // The kernel is filling the page when it is to go: that waits for the page.
    let reading: Promise<Buffer> | undefined;
    a.volume.caches = { drop: async () => void (await (reading ??= read())), pause: () => turns(20) };

    // The clusters are there: the size is set, then data goes to the device.
    let go!: () => void, stalled!: () => void;
    const mayGo = new Promise<void>((resolve) => (go = resolve)), isStalled = new Promise<void>((resolve) => (stalled = resolve));
    a.device.beforeWrite = () => {
      stalled();
      return mayGo;
    };
    const writing = writeFile(ctx, blkno, 5000, content.subarray(5000, 6000));
    await isStalled;
    const wanted = cluster.take(lockName('M', blkno, 0));
    await turns();
    go();
    a.device.beforeWrite = undefined;
    await writing;
    (await wanted)();
    expect(await reading).toEqual(content.subarray(0, 6000));
    a.volume.caches = undefined;
    await names.forget(blkno);
    for (const node of [a, b]) await cluster.unmount(node);
    await expectFsckClean(cluster.lun);
  });
});
