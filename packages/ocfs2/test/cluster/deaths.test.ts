/**
 * Nodes that die while all of them work: what was synced is there, what was handed over stays as the next holder left it,
 * survivors go on, whoever dies while he recovers another is recovered too. LUNFS_SEED=… repeats a run.
 */
import { LunfsError, type MemoryDevice, Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { checkVolume } from '../../src/check/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { JournalInode } from '../../src/journal/index.js';
import { readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { type ClusterNode, TestCluster } from '../support/cluster.js';
import { MAY_BE_LEFT } from '../support/crash.js';
import { expectFsckClean } from '../support/volume.js';
import { DIR, FILE, bytes, text } from '../volume/support.js';

const SEED = seed('deaths');

async function expectClean(lun: MemoryDevice): Promise<void> {
  expect((await checkVolume(lun)).findings.filter((f) => !MAY_BE_LEFT.includes(f.code))).toEqual([]);
  await expectFsckClean(lun, MAY_BE_LEFT);
}

async function contentOf({ volume: { names, ctx } }: ClusterNode, dir: number, name: string): Promise<string> {
  const { blkno, size } = await names.lookup(dir, bytes(name));
  const content = new Uint8Array(size);
  await readFile(ctx, blkno, 0, content);
  await names.forget(blkno);
  return text(content);
}

async function create({ volume: { names, ctx } }: ClusterNode, dir: number, name: string, content: string): Promise<void> {
  const { blkno } = await names.create(dir, bytes(name), FILE);
  await writeFile(ctx, blkno, 0, bytes(content));
  await names.forget(blkno);
}

async function list({ volume: { names } }: ClusterNode, dir: number): Promise<string[]> {
  const out: string[] = [];
  for (let position = 0, end = false; !end; ) {
    const part = await names.readdir(dir, position);
    for (const entry of part.entries) {
      position = entry.next;
      out.push(text(entry.name));
    }
    end = part.end;
  }
  return out.filter((name) => name !== '.' && name !== '..').sort();
}

describe('a block that was handed over and changed by the next holder', () => {
  // What makes it safe is that the log's tail on disk is past the block's image; without that, replay brings the old image back.
  test.each(['the tail moves first', 'the tail is lost'] as const)('%s', async (kind) => {
    const cluster = await TestCluster.make(11);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const { root } = a.volume.names;
    await create(a, root, 'first', 'by a');
    if (kind === 'the tail is lost') {
      const reader = await RawReader.open(cluster.lun);
      const log = (await JournalInode.read(reader, (await readSystemFiles(reader)).journal[a.volume.ctx.slot])).map.at(0).blkno;
      await a.volume.sync(); // the tail is on disk: there is something to replay
      a.device.loses = (offset) => offset === log * reader.geo.blockSize;
    }
    await create(b, root, 'second', 'by b'); // takes the directory from a
    await b.volume.ctx.engine.log.flush();
    cluster.kill(1);
    await b.volume.names.attributes(root);
    await b.volume.unmount();
    cluster.kill(2);
    const c = await cluster.mount(3);
    const found = (await list(c, root)).filter((name) => name !== 'lost+found');
    expect(found).toEqual(kind === 'the tail moves first' ? ['first', 'second'] : ['first']);
    if (kind === 'the tail is lost') return;
    await cluster.unmount(c);
    await expectClean(cluster.lun);
  });
});

test('two who mount at once when all have died: neither reads what is yet to be replayed', { timeout: 300_000 }, async () => {
  for (let i = 0; i < 6; i++) {
    const cluster = await TestCluster.make(SEED + i);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const { root } = a.volume.names;
    for (const [node, name] of [[a, 'a'], [b, 'b']] as const) for (let n = 0; n < 10; n++) await create(node, root, `${name}${n}`, name);
    const names = await list(b, root); // its last ones are in its log alone
    for (const { volume } of [a, b]) await volume.sync();
    for (const { number } of [a, b]) cluster.kill(number);
    const mounted = await Promise.all([3, 4].map(async (number) => {
      const node = await cluster.mount(number);
      expect(await list(node, root), `node ${number}`).toEqual(names);
      return node;
    }));
    for (const node of mounted) await cluster.unmount(node);
    await expectClean(cluster.lun);
  }
});

test('who dies at any write of a recovery is recovered with what it had taken over', { timeout: 300_000 }, async () => {
  for (let writes = 0, over = false; !over; writes++) {
    const cluster = await TestCluster.make(13);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const { root } = a.volume.names;
    // Clusters in the truncate log, and a window: what a owes the global bitmap.
    for (const name of ['one', 'two', 'three']) await create(a, root, name, 'x'.repeat(50_000));
    for (const name of ['one', 'three']) await a.volume.names.unlink(root, bytes(name));
    await a.volume.sync();
    const before = b.device.writes;
    cluster.kill(1);
    for (let i = 0; i < 3000 && b.device.writes < before + writes; i++) await turns(1);
    over = b.device.writes < before + writes;
    cluster.kill(2);
    const c = await cluster.mount(3);
    expect((await list(c, root)).filter((name) => name !== 'lost+found'), `after ${writes} writes`).toEqual(['two']);
    await cluster.unmount(c);
    await expectClean(cluster.lun);
    if (over) expect(writes).toBeGreaterThan(10);
  }
});

describe('a node that learns of a death after another one has granted it what was the dead one\'s', () => {
  // Between the two it would read blocks that are yet to be replayed, and change them.
  test.each([true, false])('doubt about the dead one heeded: %s', async (heeded) => {
    const cluster = await TestCluster.make(12);
    cluster.heedDoubt = heeded;
    const a = await cluster.mount(1), b = await cluster.mount(2), c = await cluster.mount(3);
    const { root } = a.volume.names;
    await create(c, root, 'by c', 'c');
    await c.volume.sync();
    const found = list(a, root); // waits for c's lock
    const told = cluster.kill(3, [1]);
    await turns(50); // b has not replayed by now, or has
    told();
    expect((await found).includes('by c')).toBe(heeded);
    if (!heeded) return;
    await cluster.unmount(a);
    await cluster.unmount(b);
    await expectClean(cluster.lun);
  });
});

/** Files a node has synced: they must be there whoever dies. */
type Ledger = Map<string, string>;

/** One user of a node: files of its own, synced now and then, and shared ones that everybody renames, cuts and removes. */
async function work(node: ClusterNode, dirs: readonly number[], random: Random, ledger: Ledger, steps: number): Promise<void> {
  const { names, ctx } = node.volume;
  const fresh = new Map<string, string>();
  for (let i = 0; i < steps; i++) {
    const dir = random.int(dirs.length), shared = bytes(`s${random.int(6)}`);
    try {
      const dice = random.int(10);
      if (dice < 3) {
        const name = `n${node.number}-${random.u32()}`, content = name.repeat(1 + random.int(400));
        await create(node, dirs[dir], name, content);
        fresh.set(`${dir}/${name}`, content);
      } else if (dice < 4) {
        const now = [...fresh];
        await node.volume.sync();
        for (const [path, content] of now) ledger.set(path, content);
      } else if (dice < 6) {
        const { blkno } = await names.create(dirs[dir], shared, FILE);
        await writeFile(ctx, blkno, random.int(50_000), new Uint8Array(1 + random.int(9000)).fill(7));
        await names.forget(blkno);
      } else if (dice < 7) await names.unlink(dirs[dir], shared);
      else if (dice < 8) await names.rename({ oldDir: dirs[dir], oldName: shared, newDir: random.pick(dirs), newName: bytes(`s${random.int(6)}`) });
      else {
        const { blkno } = await names.lookup(dirs[dir], shared);
        if (dice === 8) await truncateFile(ctx, blkno, random.int(60_000));
        else await names.setXattr(blkno, bytes('user.x'), new Uint8Array(random.int(2000)));
        await names.forget(blkno);
      }
    } catch (error) {
      // Others remove what we look at.
      if (!(error instanceof LunfsError) || !['ENOENT', 'EEXIST', 'ESTALE'].includes(error.errno ?? '')) throw error;
    }
  }
}

describe.each([0, 1, 2, 3])('four nodes under load, two of which die, run %i', { timeout: 300_000 }, (run) => {
  test.each(['one after the other', 'at once', 'the second while it recovers the first'] as const)('%s', async (how) => {
    const random = new Random(SEED + run * 10 + how.length);
    const cluster = await TestCluster.make(random.u32());
    const nodes: ClusterNode[] = [];
    for (const number of random.shuffle([1, 2, 3, 4])) nodes.push(await cluster.mount(number, { cacheBlocks: random.pick([60, 2000]) }));
    const { names } = nodes[0].volume;
    const dirs = [names.root];
    for (const name of ['d1', 'd2']) dirs.push((await names.create(names.root, bytes(name), DIR)).blkno);
    await nodes[0].volume.sync();
    const ledger: Ledger = new Map();
    const [first, second, ...others] = nodes;
    // The dead never come to an end.
    for (const node of [first, second]) for (let user = 0; user < 2; user++) void work(node, dirs, random.fork(), ledger, 1000);
    const survivors = others.flatMap((node) => [0, 1].map(() => work(node, dirs, random.fork(), ledger, 60)));
    await turns(300 + random.int(500));
    // One of those that live on may hear of it late.
    const told = cluster.kill(first.number, random.chance(0.5) ? [random.pick(others).number] : []);
    void turns(random.int(60)).then(told);
    if (how === 'one after the other') await turns(400);
    else if (how !== 'at once') {
      // Whoever recovers writes: some request of the recovery is the last.
      const writes = second.device.writes + 1 + random.int(30);
      for (let i = 0; i < 400 && second.device.writes < writes; i++) await turns(1);
    }
    cluster.kill(second.number);
    await Promise.all(survivors);
    const [x, y] = others;
    for (const [path, content] of ledger) {
      const [dir, name] = path.split('/');
      expect(await contentOf(random.pick(others), dirs[Number(dir)], name), path).toBe(content);
    }
    for (const dir of dirs) expect(await list(x, dir)).toEqual(await list(y, dir));
    expect(ledger.size).toBeGreaterThan(0);
    for (const node of others) await cluster.unmount(node);
    // Orphans of inodes that two nodes let go of at once may wait for a scan.
    await cluster.unmount(await cluster.mount(9));
    await expectClean(cluster.lun);
  });
});

async function turns(n: number): Promise<void> {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
}
