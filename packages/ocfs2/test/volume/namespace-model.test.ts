import type { MemoryDevice } from '@lunfs/device';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MODE, S_IFMT } from '../../src/format/index.js';
import { seed } from '../../../../test/support/temp.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';
import { checkVolume } from '../../src/check/index.js';
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
  constructor(readonly device: MemoryDevice, public fs: Names) {
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
        this.fs = await Names.open(this.device, { slot: s.a % 2, seed: s.b, cacheBlocks: 64 + (s.x % 3) * 1000 });
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
        expect(is.mode & S_IFMT).toBe({ directory: MODE.DIR, file: MODE.REG, symlink: MODE.LNK }[child.kind]);
        if (child.kind === 'symlink') expect(text(await this.fs.ns.readlink(is.blkno))).toBe(child.target);
      }
      expect((await this.fs.ns.attributes(dir.blkno)).links).toBe(dir.links);
    }
  }
}

describe.each([...GEOMETRIES, PLAIN])('random names on $name', (spec) => {
  test('do what a tree in memory does', { timeout: 300_000 }, async () => {
    let last: MemoryDevice | undefined;
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 300, maxLength: 600, size: 'max' }), async (steps) => {
      const device = await makeVolume(spec);
      const pair = new Pair(device, await Names.open(device));
      pair.model.root.children.get('lost+found')!.blkno = (await pair.fs.lookup(pair.fs.ns.root, 'lost+found')).blkno;
      for (const s of steps) await pair.run(s);
      await pair.compare();
      await pair.fs.ctx.engine.log.flush();
      expect((await checkVolume(device)).findings.filter((f) => f.severity !== 'recovery')).toEqual([]);
      last = device;
    }), { seed: seed(`names ${spec.name}`), numRuns: 4, endOnFailure: true, reporter: (result) => {
      // The steps of a failing run are found by its seed; printing them helps nobody.
      if (result.failed) throw new Error(`LUNFS_SEED=${result.seed}, path ${result.counterexamplePath}: ${String(result.errorInstance)}`, { cause: result.errorInstance });
    } });
    // The steps remove what they like, lost+found as well.
    await expectFsckClean(last!, ['LOSTFOUND_MISSING']);
  });
});
