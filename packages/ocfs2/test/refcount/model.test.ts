/**
 * Random operations on files that share clusters, against their bytes in memory: reflinks, ranges shared, writes, punches,
 * zeroed ranges, truncations, removals, remounts. After each run fsck.ocfs2 and our verifier count every reference.
 */
import { Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { MODE } from '../../src/format/index.js';
import { type MountOptions, Volume, fallocate, punchHole, readFile, shareRange, truncateFile, writeFile, zeroRange } from '../../src/volume/index.js';
import { type NamedVolume, GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';
import { quietMount } from '../support/crash.js';

interface File {
  readonly ino: number;
  bytes: Uint8Array;
}

const OWNER = { uid: 1000, gid: 1000 };
/** Bytes of a file, about. */
const LIMIT = 2 << 20;
/** What fsck.ocfs2 1.8.7 says of space reserved beyond i_size. */
const LEGAL = ['INODE_SPARSE_SIZE'];

class Model {
  readonly files = new Map<string, File>();
  #made = 0;

  constructor(public volume: Volume, readonly random: Random, readonly unit: number) {}

  #pick(): [string, File] {
    return [...this.files][this.random.int(this.files.size)];
  }

  /** A range, often on whole clusters. */
  #range(most: number): [number, number] {
    const { random, unit } = this;
    const aligned = random.int(2) === 0;
    const at = random.int(Math.max(1, most)), length = 1 + random.int(random.int(4) === 0 ? 1 << 20 : Math.min(5 * unit, 1 << 20));
    return aligned ? [at - (at % unit), Math.ceil(length / unit) * unit] : [at, length];
  }

  #data(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const words = new Uint32Array(bytes.buffer, 0, length >> 2), start = this.random.int(2 ** 32);
    for (let i = 0; i < words.length; i++) words[i] = start + i;
    return bytes.fill(start, length & ~3);
  }

  #put(file: File, at: number, data: Uint8Array): void {
    if (at + data.length > file.bytes.length) this.#resize(file, at + data.length);
    file.bytes.set(data, at);
  }

  #resize(file: File, size: number): void {
    const bytes = new Uint8Array(size);
    bytes.set(file.bytes.subarray(0, size));
    file.bytes = bytes;
  }

  async step(): Promise<void> {
    const { random, files } = this;
    const { ctx, names } = this.volume;
    const root = names.root;
    const kind = random.int(20);
    if (files.size === 0 || (kind === 0 && files.size < 8)) {
      const name = `file${this.#made++}`;
      const { blkno } = await names.create(root, Buffer.from(name), { mode: MODE.REG | 0o644, ...OWNER });
      await names.forget(blkno);
      const file = { ino: blkno, bytes: new Uint8Array() };
      files.set(name, file);
      const data = this.#data(1 + random.int(LIMIT / 2));
      await writeFile(ctx, blkno, 0, data);
      return this.#put(file, 0, data);
    }
    const [name, file] = this.#pick();
    const { ino } = file;
    if (kind < 4 && files.size < 10) {
      const clone = `clone${this.#made++}`;
      const { blkno } = await names.reflink(ino, root, Buffer.from(clone), OWNER);
      await names.forget(blkno);
      files.set(clone, { ino: blkno, bytes: file.bytes.slice() });
    } else if (kind < 6) {
      const [, other] = this.#pick();
      let [from, length] = this.#range(file.bytes.length);
      length = Math.min(length, file.bytes.length - from);
      const to = this.#range(Math.min(LIMIT, other.bytes.length + this.unit))[0];
      if (length > 0 && (await shareRange(ctx, { source: ino, from, target: other.ino, to, length }))) this.#put(other, to, file.bytes.slice(from, from + length));
    } else if (kind < 12) {
      const [at, length] = this.#range(Math.min(LIMIT, file.bytes.length + 3 * this.unit));
      const data = this.#data(length);
      await writeFile(ctx, ino, at, data);
      this.#put(file, at, data);
    } else if (kind < 14) {
      const [at, length] = this.#range(file.bytes.length);
      await punchHole(ctx, ino, at, length);
      file.bytes.fill(0, at, at + length);
    } else if (kind === 14) {
      const [at, length] = this.#range(file.bytes.length);
      const keep = random.int(2) === 0;
      await zeroRange(ctx, ino, at, length, keep);
      file.bytes.fill(0, at, at + length);
      if (!keep && at + length > file.bytes.length) this.#resize(file, at + length);
    } else if (kind === 15) {
      const [at, length] = this.#range(file.bytes.length);
      await fallocate(ctx, ino, 'reserve', at, length, true);
    } else if (kind < 18) {
      const size = random.int(5) === 0 ? 0 : random.int(Math.min(LIMIT, file.bytes.length + 4 * this.unit));
      await truncateFile(ctx, ino, size);
      this.#resize(file, size);
    } else if (kind === 18) {
      files.delete(name);
      await names.unlink(root, Buffer.from(name));
    } else await this.verify();
  }

  async verify(): Promise<void> {
    for (const [name, { ino, bytes }] of this.files) {
      const got = new Uint8Array(bytes.length + 1);
      expect(await readFile(this.volume.ctx, ino, 0, got), `size of ${name}`).toBe(bytes.length);
      const wrong = Buffer.compare(got.subarray(0, bytes.length), bytes) === 0 ? -1 : bytes.findIndex((b, i) => b !== got[i]);
      expect(wrong, `first wrong byte of ${name}`).toBe(-1);
    }
  }

  async clear(): Promise<void> {
    for (const name of this.files.keys()) await this.volume.names.unlink(this.volume.names.root, Buffer.from(name));
    this.files.clear();
  }
}

async function run(spec: NamedVolume, seed: number, steps: number, options: () => MountOptions): Promise<void> {
  const device = await makeVolume(spec);
  const random = new Random(seed);
  let volume = await Volume.mount(device, options());
  const model = new Model(volume, random, volume.geo.clusterSize);
  const before = await volume.names.statistics();
  for (let i = 0; i < steps; i++) {
    await model.step();
    if (random.int(60) !== 0) continue;
    await volume.unmount();
    volume = model.volume = await Volume.mount(device, options());
    await model.verify();
  }
  await model.verify();
  await volume.unmount();
  await expectFsckClean(device, LEGAL);
  volume = model.volume = await Volume.mount(device, options());
  await model.verify();
  await model.clear();
  await volume.unmount();
  await expectFsckClean(device, LEGAL);
  volume = await Volume.mount(device, options());
  const after = await volume.names.statistics();
  // What stays are groups of the allocators.
  expect(before.freeBlocks - after.freeBlocks).toBeLessThanOrEqual((16 << 20) / volume.geo.blockSize);
  await volume.unmount();
}

describe('files that share clusters, against a model', () => {
  for (const [i, spec] of GEOMETRIES.entries()) {
    test(spec.name, () => run(spec, 100 + i, spec.name === '4K/1M' ? 50 : 90, () => quietMount(i)), 120_000);
  }
});
