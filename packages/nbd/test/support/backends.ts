/** Two files to export: one in memory, one on a real O_DIRECT descriptor with a map that can be made to move. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { Gate, MemoryDevice, UsageError, type FileBackend, type MappedRun, type RangeStatus } from '@lunfs/device';

/** A file over a MemoryDevice: no descriptor, so that everything goes to the owner. Bytes never written are holes. */
export class MemoryBackend implements FileBackend {
  readonly device: MemoryDevice;
  readonly written = new Set<number>();
  flushes = 0;
  /** Writes never come back, as on a fenced volume. */
  stuck = false;
  /** Next operation fails with this. */
  failure: Error | null = null;

  constructor(readonly size: number, readonly readOnly = false) {
    this.device = new MemoryDevice({ size: Math.ceil(size / 4096) * 4096, logicalBlockSize: 512 });
  }

  async map(): Promise<{ epoch: number; runs: MappedRun[] }> {
    return { epoch: 0, runs: [] };
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.#fail();
    const from = Math.floor(offset / 512) * 512;
    const bytes = new Uint8Array(Math.ceil((offset + into.length) / 512) * 512 - from);
    this.device.readSync(from, bytes);
    into.set(bytes.subarray(offset - from, offset - from + into.length));
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    if (this.stuck) await new Promise(() => {});
    this.#fail();
    const start = Math.floor(offset / 512) * 512;
    const bytes = new Uint8Array(Math.ceil((offset + from.length) / 512) * 512 - start);
    this.device.readSync(start, bytes);
    bytes.set(from, offset - start);
    this.device.writeSync(start, bytes);
    for (let page = Math.floor(offset / 4096); page * 4096 < offset + from.length; page++) this.written.add(page);
  }

  async flush(): Promise<void> {
    this.#fail();
    this.flushes++;
  }

  async trim(offset: number, length: number): Promise<void> {
    await this.writeZeroes(offset, length, true);
  }

  async writeZeroes(offset: number, length: number, punch: boolean): Promise<void> {
    const zero = new Uint8Array(Math.min(length, 1 << 20));
    for (let done = 0; done < length; done += zero.length) await this.write(offset + done, zero.subarray(0, Math.min(zero.length, length - done)));
    if (punch) for (let page = Math.ceil(offset / 4096); (page + 1) * 4096 <= offset + length; page++) this.written.delete(page);
  }

  async status(offset: number, length: number, limit: number): Promise<RangeStatus[]> {
    const parts: RangeStatus[] = [];
    for (let at = offset; at < offset + length; ) {
      const end = Math.min((Math.floor(at / 4096) + 1) * 4096, offset + length);
      const kind = this.written.has(Math.floor(at / 4096)) ? 'data' : 'hole';
      const last = parts.at(-1);
      if (last?.kind === kind) last.length += end - at;
      else if (parts.length === limit) break;
      else parts.push({ offset: at, length: end - at, kind });
      at = end;
    }
    return parts;
  }

  async close(): Promise<void> {}

  #fail(): void {
    const { failure } = this;
    this.failure = null;
    if (failure !== null) throw failure;
  }
}

const CLUSTER = 16 * 1024;

/**
 * A thin file on a real device descriptor: clusters get places in random order when first written, `move` recalls the
 * mapping, puts clusters elsewhere and leaves poison behind. Whoever used an old mapping afterwards reads the poison, or
 * writes where nobody reads.
 */
export class MovingBackend implements FileBackend {
  readonly readOnly = false;
  readonly gate = new Gate();
  readonly direct: { fd: number; alignment: number; gate: Gate };
  moves = 0;
  /** Requests to the owner never come back, as on a fenced volume. */
  stuck = false;
  ownerReads = 0;
  ownerWrites = 0;
  flushes = 0;
  readonly #place = new Map<number, number>();
  readonly #free: number[];
  readonly #memory: Uint8Array;
  #turn: Promise<unknown> = Promise.resolve();

  /** `random` in [0, 1): seeded by the test. Pass `prefill` to allocate everything at once (a thick file). */
  constructor(readonly file: string, readonly size: number, readonly random: () => number, prefill = false) {
    const clusters = size / CLUSTER;
    const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_DIRECT, 0o600);
    fs.ftruncateSync(fd, 2 * size);
    this.direct = { fd, alignment: 4096, gate: this.gate };
    this.#free = Array.from({ length: 2 * clusters }, (_, i) => i);
    const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: new (o: { initial: number }) => { buffer: ArrayBuffer } } }).WebAssembly;
    this.#memory = new Uint8Array(new Memory({ initial: 1 }).buffer, 0, CLUSTER);
    if (prefill) for (let cluster = 0; cluster < clusters; cluster++) this.#allocate(cluster);
  }

  /** Move `count` random allocated clusters. */
  move(count: number): Promise<void> {
    return this.#exclusive(async () => {
      await this.gate.recall();
      const clusters = [...this.#place.keys()];
      for (let i = 0; i < count && clusters.length > 0; i++) {
        const cluster = clusters[Math.floor(this.random() * clusters.length)];
        const old = this.#place.get(cluster)!;
        this.#load(old);
        const copy = this.#memory.slice();
        this.#place.delete(cluster);
        this.#store(this.#allocate(cluster), copy);
        this.#store(old, new Uint8Array(CLUSTER).fill(0xee));
        this.#free.push(old);
      }
      this.moves++;
    });
  }

  map(offset: number, length: number, _write: boolean, limit: number): Promise<{ epoch: number; runs: MappedRun[] }> {
    return this.#exclusive(async () => {
      const runs: MappedRun[] = [];
      for (let cluster = Math.floor(offset / CLUSTER); cluster * CLUSTER < offset + length && runs.length < limit; cluster++) {
        const place = this.#place.get(cluster);
        // Deliberately sparse: some of what is mapped is not told.
        if (place !== undefined && cluster % 7 !== 3) runs.push({ offset: cluster * CLUSTER, length: CLUSTER, device: place * CLUSTER });
      }
      return { epoch: this.gate.epoch, runs };
    });
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    this.ownerReads++;
    return this.#exclusive(async () => {
      this.#each(offset, into.length, (cluster, within, from, bytes) => {
        const place = this.#place.get(cluster);
        if (place === undefined) into.fill(0, from, from + bytes);
        else {
          this.#load(place);
          into.set(this.#memory.subarray(within, within + bytes), from);
        }
      });
    });
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    this.ownerWrites++;
    if (this.stuck) return new Promise(() => {});
    return this.#exclusive(async () => {
      // Read, change and write of whole clusters: direct writes into them must not be under way.
      await this.gate.recall();
      this.#each(offset, data.length, (cluster, within, from, bytes) => {
        let place = this.#place.get(cluster);
        if (place === undefined) {
          place = this.#allocate(cluster);
          this.#memory.fill(0);
        } else this.#load(place);
        this.#memory.set(data.subarray(from, from + bytes), within);
        this.#store(place, this.#memory);
      });
    });
  }

  async flush(): Promise<void> {
    this.flushes++;
    fs.fdatasyncSync(this.direct.fd);
  }

  trim(offset: number, length: number): Promise<void> {
    return this.writeZeroes(offset, length);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    const zero = new Uint8Array(CLUSTER);
    for (let done = 0; done < length; done += CLUSTER) await this.write(offset + done, zero.subarray(0, Math.min(CLUSTER, length - done)));
  }

  status(offset: number, length: number, limit: number): Promise<RangeStatus[]> {
    return this.#exclusive(async () => {
      const parts: RangeStatus[] = [];
      this.#each(offset, length, (cluster, _within, from, bytes) => {
        const kind = this.#place.has(cluster) ? 'data' : 'hole';
        const last = parts.at(-1);
        if (last?.kind === kind) last.length += bytes;
        else parts.push({ offset: offset + from, length: bytes, kind });
      });
      return parts.slice(0, limit);
    });
  }

  async close(): Promise<void> {
    await this.#turn;
    fs.closeSync(this.direct.fd);
    fs.rmSync(this.file);
  }

  #allocate(cluster: number): number {
    const [place] = this.#free.splice(Math.floor(this.random() * this.#free.length), 1);
    if (place === undefined) throw new UsageError('TEST_FULL', 'ENOSPC', 'no cluster is free');
    this.#place.set(cluster, place);
    return place;
  }

  #load(place: number): void {
    fs.readSync(this.direct.fd, this.#memory, 0, CLUSTER, place * CLUSTER);
  }

  #store(place: number, bytes: Uint8Array): void {
    if (bytes !== this.#memory) this.#memory.set(bytes);
    fs.writeSync(this.direct.fd, this.#memory, 0, CLUSTER, place * CLUSTER);
  }

  #each(offset: number, length: number, visit: (cluster: number, within: number, from: number, bytes: number) => void): void {
    for (let done = 0; done < length; ) {
      const within = (offset + done) % CLUSTER;
      const bytes = Math.min(CLUSTER - within, length - done);
      visit((offset + done - within) / CLUSTER, within, done, bytes);
      done += bytes;
    }
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** mulberry32: a seeded stream of numbers in [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

export function temporaryDirectory(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-nbd-'));
}
