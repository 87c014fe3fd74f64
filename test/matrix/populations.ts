/**
 * What we put into a volume of the matrix, and how we change it after Linux did: deep extent trees filled in random order,
 * unwritten and punched files, directories with many entries, and the whole volume filled to its last cluster, thinned out
 * and filled again.
 */
import { LunfsError } from '@lunfs/device';
import type { EngineTree } from '../support/engine-tree.js';
import { randomFrom } from '../support/temp.js';

export interface Scale {
  /** Records of the deep file. */
  readonly extents: number;
  readonly entries: number;
  /** Bytes of data written per file, about. */
  readonly bytes: number;
}
export const SMALL: Scale = { extents: 600, entries: 300, bytes: 2 << 20 };
export const BIG: Scale = { extents: 100_000, entries: 200_000, bytes: 64 << 20 };

const noSpace = (error: unknown): boolean => error instanceof LunfsError && error.code === 'NO_SPACE';

/** Numbers 0..n-1 in random order. */
function shuffled(n: number, random: () => number): number[] {
  const all = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const k = Math.floor(random() * (i + 1));
    [all[i], all[k]] = [all[k], all[i]];
  }
  return all;
}

export class Population {
  private readonly random: () => number;
  private readonly cluster: number;
  private readonly sparse: boolean;
  private readonly unwritten: boolean;

  constructor(private readonly tree: EngineTree, private readonly scale: Scale, seed: number) {
    const { geo } = tree.volume;
    this.random = randomFrom(seed);
    this.cluster = geo.clusterSize;
    this.sparse = geo.sparse;
    this.unwritten = geo.sparse && geo.unwritten;
  }

  /** Clusters that may be written at this scale. */
  private get writable(): number {
    return Math.max(4, Math.floor(this.scale.bytes / this.cluster));
  }

  /** Fill an empty volume. */
  async fill(): Promise<void> {
    const { tree } = this;
    await tree.mkdir('ours');
    await this.plain('ours');
    await this.interleaved('ours');
    if (this.sparse) await this.deep('ours/deep');
    await tree.mkdir('ours/wide');
    for (let i = 0; i < this.scale.entries; i++) await tree.create(`ours/wide/entry number ${i}`);
    for (let i = 0; i < this.scale.entries; i += 3) await tree.unlink(`ours/wide/entry number ${i}`);
    if (this.unwritten) await this.full();
  }

  /** Files of a few pieces: inline, grown, written beyond their end, cut. */
  private async plain(top: string): Promise<void> {
    const { tree, cluster } = this;
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
  }

  /** Two files that grow in turns, so that neither is in one piece. */
  private async interleaved(top: string): Promise<void> {
    const names = [`${top}/even`, `${top}/odd`];
    for (const name of names) await this.tree.create(name);
    for (let i = 0; i < Math.min(120, this.writable); i++) await this.tree.write(names[i % 2], 'append', Buffer.alloc(this.cluster, `turn ${i} `));
  }

  /** One record in every other cluster, put in at random; some written, some taken out again. */
  private async deep(path: string): Promise<void> {
    const { tree, cluster, random } = this;
    const count = Math.min(this.scale.extents, Math.floor(tree.volume.geo.totalClusters / 4), this.unwritten ? Number.POSITIVE_INFINITY : 8 * this.writable);
    await tree.create(path);
    for (const i of shuffled(count, random)) {
      if (this.unwritten) await tree.fallocate(path, 'reserve', 2 * i * cluster, cluster);
      else await tree.write(path, 2 * i * cluster + 11, `record ${i}`);
    }
    if (!this.unwritten) return;
    const order = shuffled(count, random);
    for (const i of order.slice(0, Math.min(count / 5, this.writable))) await tree.write(path, 2 * i * cluster + 17, `written ${i}`);
    for (const i of order.slice(-count / 10)) await tree.fallocate(path, 'punch', 2 * i * cluster, cluster, true);
  }

  /** Reserve until nothing is free, in files of `top`; returns how many there are. */
  private async reserveAll(top: string, from: number): Promise<number> {
    const { tree, cluster } = this;
    let n = from;
    const { freeBlocks, blockSize } = await tree.volume.names.statistics();
    for (let size = Math.max(cluster, Math.floor((freeBlocks * blockSize) / 30 / cluster) * cluster); ; ) {
      try {
        await tree.create(`${top}/${n}`);
        n++;
        await tree.fallocate(`${top}/${n - 1}`, 'reserve', 0, size, true);
      } catch (error) {
        if (!noSpace(error)) throw error;
        if (size === cluster) return n;
        size = cluster;
      }
    }
  }

  /** The volume full, thinned out, full again of smaller things, and then with a little room. */
  private async full(): Promise<void> {
    const { tree, cluster, random } = this;
    await tree.mkdir('full');
    const n = await this.reserveAll('full', 0);
    await this.expectFull();
    for (let i = 1; i < n; i += 3) await tree.unlink(`full/${i}`);
    for (let i = 0; i < n; i += 6) for (let k = 1; k < 60; k += 2) await tree.fallocate(`full/${i}`, 'punch', k * cluster, cluster, true);
    await tree.mkdir('again');
    for (let i = 0; i < 200; i++) await tree.create(`again/file-${i}`, i % 2 ? '' : `content ${i}`);
    await tree.create('again/deep');
    for (const i of shuffled(Math.min(300, Math.floor(tree.volume.geo.totalClusters / 16)), random)) await tree.fallocate('again/deep', 'reserve', 3 * i * cluster, cluster);
    await tree.mkdir('again/full');
    const m = await this.reserveAll('again/full', 0);
    await this.expectFull();
    for (let i = 0; i < m; i += 2) await tree.unlink(`again/full/${i}`);
    for (let i = 0; i < n; i += 3) await tree.unlink(`full/${i}`);
  }

  /** Nothing more fits, and what is tried leaves no trace. */
  private async expectFull(): Promise<void> {
    const { tree, cluster } = this;
    const touched = ['ours/text', 'ours/beyond', 'ours/empty'];
    const state = async () => {
      const trees: unknown[] = [];
      for (const path of touched) trees.push([...(await tree.manifest(path))]);
      return JSON.stringify([await tree.volume.names.statistics(), trees]);
    };
    const before = await state();
    const tried: [string, () => Promise<unknown>][] = [
      ['reserving', () => tree.fallocate('ours/text', 'reserve', 0, 10 * 2 ** 30, true)],
      ['writing', () => tree.write('ours/beyond', 40 * cluster, 'there is no cluster for it')],
      ['a symlink', () => tree.symlink('x'.repeat(4000), `ours/empty/${'n'.repeat(250)}`)],
    ];
    for (const [what, work] of tried) {
      const error: unknown = await work().then(() => new Error(`${what} found room on a full volume`), (reason: unknown) => reason);
      if (!noSpace(error)) throw error;
      const after = await state();
      if (after !== before) throw new Error(`${what}: what did not fit left a trace: ${before} became ${after}`);
    }
  }

  /** Change what is there, also what Linux made. */
  async change(): Promise<void> {
    const { tree, cluster, random } = this;
    await tree.write('theirs/text', 100, 'changed by us');
    await tree.write('theirs/text', 'append', 'appended by us\n'.repeat(500));
    await tree.write('theirs/beyond', 5 * cluster, 'further');
    for (let i = 1; i < 40; i += 4) await tree.unlink(`theirs/sub/file-${i}`);
    await tree.rename('theirs/sub', 'ours/empty/sub');
    await tree.truncate('theirs/a', 4000);
    await tree.unlink('theirs/b');
    await tree.unlink('ours/even');
    await tree.write('ours/odd', 'append', 'the end');
    if (!this.sparse) return;
    for (const i of shuffled(30, random)) await tree.write('ours/deep', (2 * i + 1) * cluster + 5, `odd ${i}`);
    await tree.truncate('ours/deep', 200 * cluster + 1);
  }
}
