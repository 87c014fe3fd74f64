/** A volume of the matrix that is being filled or changed: what it can hold, how much of it, and reproducible randomness. */
import { type Cell, SCALES, type Scale } from '../../scripts/lib/matrix-cells.mjs';
import type { EngineTree } from '../support/engine-tree.js';
import { randomFrom } from '../support/temp.js';

export class Site {
  readonly scale: Scale;
  readonly random: () => number;
  /** Bytes of a cluster. */
  readonly cluster: number;
  readonly sparse: boolean;
  readonly unwritten: boolean;

  constructor(readonly tree: EngineTree, cell: Cell, seed: number) {
    const { geo } = tree.volume;
    this.scale = SCALES[cell.scale];
    this.random = randomFrom(seed);
    this.cluster = geo.clusterSize;
    this.sparse = geo.sparse;
    this.unwritten = geo.sparse && geo.unwritten;
  }

  get geo() {
    return this.tree.volume.geo;
  }

  /** Clusters one file may be written in at this scale. */
  get writable(): number {
    return Math.max(3, Math.floor(this.scale.bytes / this.cluster));
  }

  /** Numbers 0..n-1 in random order. */
  shuffled(n: number): number[] {
    const all = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const k = Math.floor(this.random() * (i + 1));
      [all[i], all[k]] = [all[k], all[i]];
    }
    return all;
  }

  /** Bytes no two words of which are alike. */
  bytes(length: number): Buffer {
    const words = new Uint32Array(Math.ceil(length / 4));
    const start = Math.floor(this.random() * 0x7fffffff);
    for (let i = 0; i < words.length; i++) words[i] = Math.imul(start + i, 0x9e3779b1);
    return Buffer.from(words.buffer, 0, length);
  }
}
