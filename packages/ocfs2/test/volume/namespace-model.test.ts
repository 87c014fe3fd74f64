import type { MemoryDevice } from '@lunfs/device';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MODE, S_IFMT } from '../../src/format/index.js';
import { seed } from '../../../../test/support/temp.js';
import { GEOMETRIES, type NamedVolume, expectFsckClean, makeVolume } from '../support/volume.js';
import { checkVolume } from '../../src/check/index.js';
import { recoverOrphans } from '../../src/volume/inode-life.js';
import { DIR, FILE, Names, PLAIN, bytes, symlink, text } from './support.js';
import { Node, TreeModel } from './tree-model.js';

/** One step: numbers pick directories, files and names among those there are. */
const step = fc.record({
  kind: fc.oneof(
    { weight: 8, arbitrary: fc.constant('create' as const) }, { weight: 4, arbitrary: fc.constant('mkdir' as const) },
    { weight: 2, arbitrary: fc.constant('symlink' as const) }, { weight: 3, arbitrary: fc.constant('link' as const) },
    { weight: 6, arbitrary: fc.constant('unlink' as const) }, { weight: 3, arbitrary: fc.constant('rmdir' as const) },
    { weight: 8, arbitrary: fc.constant('rename' as const) }, { weight: 1, arbitrary: fc.constant('remount' as const) },
    { weight: 1, arbitrary: fc.constant('fill' as const) }, { weight: 1, arbitrary: fc.constant('drain' as const) },
  ),
  a: fc.nat(), b: fc.nat(), x: fc.nat(59), y: fc.nat(59), noReplace: fc.boolean(),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Some names are long, some beyond ASCII. */
const nameOf = (i: number): string => (i % 7 === 0 ? `${i}-${'€'.repeat(80)}` : i % 5 === 0 ? `ü${i}` : `n${i}`);

class Pair {
  readonly model = new TreeModel();
  constructor(readonly device: MemoryDevice, public fs: Names, readonly hostile: boolean) {
    this.model.root.blkno = fs.ns.root;
    // mkfs.ocfs2's own directory is part of the tree.
    this.model.add(this.model.root, 'lost+found', new Node('directory'));
  }

  /** Do one step on both; a name that is there is picked twice as often as another. */
  async run(s: Step): Promise<void> {
    const dirs = this.model.directories();
    const from = dirs[s.a % dirs.length], to = dirs[s.b % dirs.length];
    const [x, y] = [nameOf(s.x), nameOf(s.y)];
    const existing = [...from.children.keys()];
    const old = existing.length > 0 && s.x % 3 > 0 ? existing[s.x % existing.length] : x;
    const { ns } = this.fs;
    switch (s.kind) {
      case 'create': return this.#add(from, x, new Node('file'));
      case 'mkdir': return this.#add(from, x, new Node('directory'));
      case 'symlink': return this.#add(from, x, new Node('symlink', 't/'.repeat(1 + (s.b % 2000))));
      case 'link': {
        const files = this.model.files();
        if (files.length === 0) return;
        const file = files[s.b % files.length];
        return this.#same(this.model.link(file, from, x), ns.link(file.blkno, from.blkno, bytes(x)).then((a) => ns.forget(a.blkno)));
      }
      case 'unlink': return this.#same(this.model.remove(from, old, false), ns.unlink(from.blkno, bytes(old)));
      case 'rmdir': return this.#same(this.model.remove(from, old, true), ns.rmdir(from.blkno, bytes(old)));
      case 'rename': return this.#same(
        this.model.rename(from, old, to, y, s.noReplace),
        ns.rename({ oldDir: from.blkno, oldName: bytes(old), newDir: to.blkno, newName: bytes(y), noReplace: s.noReplace }),
      );
      case 'fill':
        for (let i = 0; i < 60; i++) await this.#add(from, `f${s.b % 9}-${i}-${'x'.repeat((i * 7) % 90)}`, new Node('file'));
        return;
      case 'drain':
        for (const name of existing.filter((_, i) => i % 4 !== s.x % 4)) await this.#same(this.model.remove(from, name, false), ns.unlink(from.blkno, bytes(name)));
        return;
      case 'remount':
        await this.fs.ctx.engine.log.flush();
        this.fs = await Names.open(this.device, { slot: s.a % 2, seed: s.b, cacheBlocks: 64 + (s.x % 3) * 1000, hostile: this.hostile });
        return;
    }
  }

  async #add(dir: Node, name: string, node: Node): Promise<void> {
    const spec = node.kind === 'directory' ? DIR : node.kind === 'file' ? FILE : symlink(node.target);
    const errno = this.model.add(dir, name, node);
    await this.#same(errno, this.fs.create(dir.blkno, name, spec).then((made) => {
      node.blkno = made.blkno;
    }));
  }

  async #same(errno: string | undefined, work: Promise<unknown>): Promise<void> {
    if (errno === undefined) await work;
    else await expect(work).rejects.toMatchObject({ errno });
  }

  async compare(): Promise<void> {
    for (const dir of this.model.directories()) {
      const found = await this.fs.list(dir.blkno, 7);
      expect(found.get('.')).toBe(dir.blkno);
      expect(found.get('..')).toBe(dir.parent!.blkno);
      expect([...found.keys()].sort()).toEqual(['.', '..', ...dir.children.keys()].sort());
      for (const [name, child] of dir.children) {
        const is = await this.fs.lookup(dir.blkno, name);
        if (child.blkno === 0) child.blkno = is.blkno;
        expect([name, is.blkno, is.links]).toEqual([name, child.blkno, child.links]);
        expect(is.mode & S_IFMT).toBe({ directory: MODE.DIR, file: MODE.REG, symlink: MODE.LNK, device: MODE.CHR }[child.kind]);
        if (child.kind === 'symlink') expect(text(await this.fs.ns.readlink(is.blkno))).toBe(child.target);
      }
      expect((await this.fs.ns.attributes(dir.blkno)).links).toBe(dir.links);
    }
  }
}

/** Run random steps on fresh volumes; the last one goes to fsck.ocfs2 as well. */
async function runs(spec: NamedVolume, numRuns: number, length: number, hostile: boolean): Promise<void> {
  let last: MemoryDevice | undefined;
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: length / 2, maxLength: length, size: 'max' }), async (steps) => {
    const device = await makeVolume(spec);
    const pair = new Pair(device, await Names.open(device, { hostile }), hostile);
    pair.model.root.children.get('lost+found')!.blkno = (await pair.fs.lookup(pair.fs.ns.root, 'lost+found')).blkno;
    for (const s of steps) await pair.run(s);
    await pair.compare();
    // What another node seemed to have in core is left to the scan of orphan directories.
    for (let left = 1; left > 0; ) ({ left } = await recoverOrphans(pair.fs.ctx, [0, 1], () => Promise.reject(new Error('no dio- entry')), pair.fs.ns.inodes));
    await pair.fs.ctx.engine.log.flush();
    expect((await checkVolume(device)).findings.filter((f) => f.severity !== 'recovery')).toEqual([]);
    last = device;
  }), {
    seed: seed(`names ${spec.name}${hostile ? ' hostile' : ''}`), numRuns, endOnFailure: true,
    // The steps of a failing run are found by its seed; printing them helps nobody.
    reporter: (result) => {
      if (result.failed) throw new Error(`LUNFS_SEED=${result.seed}, path ${result.counterexamplePath}: ${String(result.errorInstance)}`, { cause: result.errorInstance });
    },
  });
  // The steps remove what they like, lost+found as well.
  await expectFsckClean(last!, ['LOSTFOUND_MISSING']);
}

describe('random names do what a tree in memory does', () => {
  test.each([...GEOMETRIES, PLAIN])('on $name', { timeout: 300_000 }, (spec) => runs(spec, 4, 600, false));
  test.each([GEOMETRIES[1], GEOMETRIES[3]])('on $name, every lock demanded back at once', { timeout: 300_000 }, (spec) => runs(spec, 2, 200, true));
});

describe('many at once', () => {
  test.each([false, true])('names, hostile locks: %s', { timeout: 120_000 }, async (hostile) => {
    const device = await makeVolume(GEOMETRIES[0]);
    const fs = await Names.open(device, { hostile, cacheBlocks: 300 });
    const { ns } = fs;
    const dirs = await Promise.all(Array.from({ length: 4 }, (_, i) => fs.create(ns.root, `d${i}`, DIR)));
    const at = (i: number): number => dirs[i % 4].blkno;
    const count = hostile ? 60 : 300;
    const numbers = Array.from({ length: count }, (_, i) => i);
    await Promise.all(numbers.map((i) => fs.create(at(i), `name-${i}`)));
    // Each name goes around: three renames at once of one name, of which one wins.
    const won = await Promise.all(numbers.map(async (i) => {
      const tries = [1, 2, 3].map((k) => ns.rename({ oldDir: at(i), oldName: bytes(`name-${i}`), newDir: at(i + k), newName: bytes(`moved-${i}`) }).then(() => at(i + k), () => 0));
      return (await Promise.all(tries)).filter((dir) => dir !== 0);
    }));
    expect(won.every((dirs) => dirs.length === 1)).toBe(true);
    // Directories into each other, both ways: one wins, no circle.
    const moves = await Promise.allSettled([
      ns.rename({ oldDir: ns.root, oldName: bytes('d0'), newDir: at(1), newName: bytes('in') }), ns.rename({ oldDir: ns.root, oldName: bytes('d1'), newDir: at(0), newName: bytes('in') }),
    ]);
    expect(moves.map((m) => m.status).sort()).toEqual(['fulfilled', 'rejected']);
    await Promise.all(numbers.map((i) => (i % 2 ? ns.unlink(won[i][0], bytes(`moved-${i}`)) : fs.create(won[i][0], `more-${i}`))));
    const lists = await Promise.all(dirs.map((d) => fs.list(d.blkno)));
    expect(lists.flatMap((l) => [...l.keys()].filter((k) => k.startsWith('moved'))).sort()).toEqual(numbers.filter((i) => i % 2 === 0).map((i) => `moved-${i}`).sort());
    for (let left = 1; left > 0; ) ({ left } = await recoverOrphans(fs.ctx, [0, 1], () => Promise.reject(new Error('no dio- entry')), ns.inodes));
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
  });
});
