/** What users of a mounted volume do: shared records, files of their own that are synced and kept, and names that everybody changes. */
import { LunfsError, type Random } from '@lunfs/device';
import { type Namespace, type Volume, fallocate, readFile, truncateFile, writeFile } from '@lunfs/ocfs2';
import type { KernelPages } from './kernel-pages.js';
import { RECORD_BYTES, type Records } from './records.js';
import type { Incarnation, World } from './world.js';

export const RECORDS_PER_FILE = 64;
const FILE = { mode: 0o100644, uid: 0, gid: 0 } as const;
const DIRECTORY = { mode: 0o40755, uid: 0, gid: 0 } as const;
/** Errors that others' doings explain. */
const EXPECTED = ['ENOENT', 'EEXIST', 'ESTALE', 'ENOSPC'];
/** What a full volume has left, bytes. */
const LEFT = 5 << 20;
/** Longest pause of a user between two operations, milliseconds. */
const THINK_MS = 1000;
/** The same of a program between two accesses to what it has mapped. */
const MAPPED_PAUSE_MS = 100;

export const bytes = (text: string): Uint8Array => Buffer.from(text);

/** A file that was synced, or whose sync nobody has seen the end of. */
interface Kept {
  readonly dir: number;
  readonly name: string;
  readonly content: string;
}

/** An operation under way. */
export interface Ongoing {
  readonly process: Incarnation;
  what: string;
  since: number;
}

export class Users {
  steps = 0;
  readonly ongoing = new Set<Ongoing>();
  /** By path: what was synced, and not removed since. */
  readonly kept = new Map<string, Kept>();
  #dirs: number[] = [];
  #files: number[] = [];
  #budget: number;

  constructor(private readonly world: World, private readonly records: Records, steps: number) {
    this.#budget = steps;
  }

  /** All that was asked for is done, or begun. */
  get done(): boolean {
    return this.#budget <= 0;
  }

  /** Directories and files that all use. `full`: hardly anything is left for others. */
  async prepare({ names, ctx }: Volume, files: number, full: boolean): Promise<void> {
    this.#dirs = [names.root];
    for (const name of ['d1', 'd2']) {
      const { blkno } = await names.create(names.root, bytes(name), DIRECTORY);
      await names.forget(blkno);
      this.#dirs.push(blkno);
    }
    for (let i = 0; i < files; i++) {
      const { blkno } = await names.create(names.root, bytes(`records${i}`), FILE);
      await writeFile(ctx, blkno, 0, new Uint8Array(RECORDS_PER_FILE * RECORD_BYTES));
      await names.forget(blkno);
      this.#files.push(blkno);
    }
    if (!full) return;
    const { freeBlocks, blockSize } = await names.statistics();
    await create(names, names.root, 'full', (blkno) => fallocate(ctx, blkno, 'reserve', 0, freeBlocks * blockSize - LEFT, false));
  }

  /** A user of a process, until steps are over or the process is dead. */
  async work(process: Incarnation, random: Random): Promise<void> {
    const { time } = this.world;
    const fresh: Kept[] = [];
    while (this.#budget > 0 && process.alive) {
      this.#budget--;
      // Whoever dies leaves it for ever.
      const ongoing: Ongoing = { process, what: 'a pause', since: time.now() };
      this.ongoing.add(ongoing);
      await this.#pause(process, random.float() * THINK_MS);
      const begun = this.steps++;
      const [what, run] = this.#choose(process, random, fresh);
      Object.assign(ongoing, { what, since: time.now() });
      await this.#do(process, `${begun} ${what}`, run, EXPECTED);
      if (!process.alive) return;
      this.ongoing.delete(ongoing);
    }
  }

  /** Make the volume as large as its device. Somebody else may be at it. */
  async grow(process: Incarnation): Promise<void> {
    const ongoing: Ongoing = { process, what: 'grow', since: this.world.time.now() };
    this.ongoing.add(ongoing);
    await this.#do(process, 'grow', () => process.volume!.grow(), ['EBUSY']);
    if (process.alive) this.ongoing.delete(ongoing);
  }

  /** One operation. */
  async #do(process: Incarnation, what: string, run: () => Promise<unknown>, expected: readonly string[]): Promise<void> {
    const { trace } = this.world;
    trace.note(`${process.name} ${what}`);
    try {
      await process.gate();
      await run();
      trace.note(`${process.name} done: ${what}`);
    } catch (error) {
      if (!process.alive) return;
      if (!(error instanceof LunfsError) || !expected.includes(error.errno ?? '')) trace.violation(`${process.name}: ${what}: ${(error as Error).stack}`);
      else trace.note(`${process.name} ${error.errno}: ${what}`);
    }
  }

  /** Whoever was working in it has ended. */
  forget(process: Incarnation): void {
    for (const one of this.ongoing) if (one.process === process) this.ongoing.delete(one);
  }

  /** Every kept file and every record, read through one process. */
  async verify(process: Incarnation): Promise<void> {
    const volume = process.volume!;
    for (const file of this.kept.values()) await this.#checkKept(process, volume, file);
    for (const file of this.#files.keys()) await this.#readRecords(process, volume, file, 0, RECORDS_PER_FILE);
  }

  /** All names, sorted. */
  async list({ names }: Volume): Promise<string[]> {
    const found: string[] = [];
    for (const dir of this.#dirs) {
      for (let position = 0, end = false; !end; ) {
        const part = await names.readdir(dir, position);
        for (const entry of part.entries) {
          position = entry.next;
          found.push(`${dir}/${Buffer.from(entry.name).toString()}`);
        }
        ({ end } = part);
      }
    }
    return found.sort();
  }

  #choose(process: Incarnation, random: Random, fresh: Kept[]): [what: string, run: () => Promise<unknown>] {
    const volume = process.volume!;
    const { names, ctx } = volume;
    if (process.pages !== undefined && random.chance(0.2)) {
      const file = random.int(this.#files.length), resizes = random.chance(0.1);
      if (resizes) return [`set the size of records ${file}`, () => process.pages!.resize(this.#files[file], RECORDS_PER_FILE * RECORD_BYTES)];
      return [`map records ${file}`, () => this.#map(process, process.pages!, random, file, random.chance(0.7))];
    }
    const dir = random.pick(this.#dirs), shared = `s${random.int(6)}`;
    const dice = random.int(100);
    if (dice < 20) {
      const file = random.int(this.#files.length), first = random.int(RECORDS_PER_FILE), count = Math.min(1 + random.int(12), RECORDS_PER_FILE - first);
      return [`read records ${file}:${first}+${count}`, () => this.#readRecords(process, volume, file, first, count)];
    }
    if (dice < 45) {
      const file = random.int(this.#files.length), first = random.int(RECORDS_PER_FILE), count = Math.min(1 + random.int(12), RECORDS_PER_FILE - first);
      return [`write records ${file}:${first}+${count}`, async () => {
        const { bytes: content, done } = this.records.write(process, file * RECORDS_PER_FILE + first, count, () => this.world.time.now());
        const ino = this.#files[file], offset = first * RECORD_BYTES;
        await (process.pages?.write(ino, offset, content) ?? writeFile(ctx, ino, offset, content));
        done();
      }];
    }
    if (dice < 58) {
      const name = `n${random.u32()}`, content = `${name}.`.repeat(1 + random.int(900));
      return [`create ${dir}/${name}`, async () => {
        await create(names, dir, name, (blkno) => writeFile(ctx, blkno, 0, bytes(content)));
        fresh.push({ dir, name, content });
      }];
    }
    if (dice < 63) {
      return ['sync', async () => {
        const now = fresh.splice(0), done = this.records.sync(process);
        await process.pages?.sync();
        await volume.sync();
        done();
        for (const file of now) this.kept.set(`${file.dir}/${file.name}`, file);
      }];
    }
    if (dice < 67 && this.kept.size > 0) {
      const file = random.pick([...this.kept.values()]);
      return [`look at ${file.dir}/${file.name}`, async () => {
        // Somebody else may remove it meanwhile.
        if (this.kept.has(`${file.dir}/${file.name}`)) await this.#checkKept(process, volume, file, true);
      }];
    }
    if (dice < 69 && this.kept.size > 8) {
      const file = random.pick([...this.kept.values()]);
      // From now on nobody knows whether it is there: a crash may bring it back.
      this.kept.delete(`${file.dir}/${file.name}`);
      return [`remove ${file.dir}/${file.name}`, () => names.unlink(file.dir, bytes(file.name))];
    }
    if (dice < 77) {
      const offset = random.int(50_000), length = 1 + random.int(9000);
      return [`make ${dir}/${shared}`, () => create(names, dir, shared, (blkno) => writeFile(ctx, blkno, offset, new Uint8Array(length).fill(7)))];
    }
    if (dice < 84) return [`unlink ${dir}/${shared}`, () => names.unlink(dir, bytes(shared))];
    if (dice < 90) {
      const newDir = random.pick(this.#dirs), newName = `s${random.int(6)}`;
      return [`rename ${dir}/${shared} ${newDir}/${newName}`, () => names.rename({ oldDir: dir, oldName: bytes(shared), newDir, newName: bytes(newName) })];
    }
    const size = random.int(60_000), attribute = random.chance(0.5);
    return [`${attribute ? 'label' : 'cut'} ${dir}/${shared}`, () => this.#with(names, dir, shared, (blkno) => (attribute ? names.setXattr(blkno, bytes('user.x'), new Uint8Array(size % 2000)) : truncateFile(ctx, blkno, size)))];
  }

  async #readRecords(process: Incarnation, { ctx }: Volume, file: number, first: number, count: number): Promise<void> {
    const { time, trace } = this.world;
    const begin = time.now();
    const content = new Uint8Array(count * RECORD_BYTES);
    const ino = this.#files[file], offset = first * RECORD_BYTES;
    const read = await (process.pages?.read(ino, offset, content) ?? readFile(ctx, ino, offset, content));
    if (!process.alive) return;
    const wrong = read < content.length ? `${read} bytes of ${content.length}` : this.records.wrong(process, file * RECORDS_PER_FILE + first, content, begin, time.now());
    if (wrong !== undefined) trace.violation(`${process.name} reads file ${file}, records ${first}+${count}: ${wrong}`);
  }

  /** A program maps a file of records, looks at some and changes some, and unmaps it. */
  async #map(process: Incarnation, pages: KernelPages, random: Random, file: number, writable: boolean): Promise<void> {
    const { time, trace } = this.world;
    const mapping = await pages.open(this.#files[file], writable);
    for (let left = 1 + random.int(8); left > 0; left--) {
      await this.#pause(process, random.float() * MAPPED_PAUSE_MS);
      // A program that looks at its pages past the deadline asks nobody: docs/fencing.md.
      await process.gate();
      const index = random.int(RECORDS_PER_FILE), record = file * RECORDS_PER_FILE + index, offset = index * RECORD_BYTES;
      if (writable && random.chance(0.6)) {
        await mapping.store(offset, () => {
          const { bytes: content, done } = this.records.write(process, record, 1, () => time.now());
          done();
          return content;
        });
        trace.note(`${process.name} has stored into ${file}:${index}`);
      } else {
        const begin = time.now();
        const content = await mapping.load(offset, RECORD_BYTES);
        if (!process.alive) return;
        const wrong = this.records.wrong(process, record, content, begin, time.now());
        if (wrong !== undefined) trace.violation(`${process.name} loads from the mapped file ${file}, record ${index}: ${wrong}`);
      }
      if (random.chance(0.1)) await mapping.sync();
    }
    await mapping.close();
  }

  async #checkKept(process: Incarnation, { names, ctx }: Volume, { dir, name, content }: Kept, mayGo = false): Promise<void> {
    const path = `${dir}/${name}`;
    let found: string | undefined;
    try {
      await this.#with(names, dir, name, async (blkno, size) => {
        const into = new Uint8Array(size);
        await readFile(ctx, blkno, 0, into);
        found = Buffer.from(into).toString();
      });
    } catch (error) {
      if (!(error instanceof LunfsError) || !EXPECTED.includes(error.errno ?? '')) throw error;
    }
    if (!process.alive || found === content || (mayGo && !this.kept.has(path))) return;
    this.world.trace.violation(`${process.name}: ${path} was synced and ${found === undefined ? 'is not there' : `has other content: ${found.length} bytes for ${content.length}, ${found.slice(0, 60)}`}`);
  }

  async #with(names: Namespace, dir: number, name: string, use: (blkno: number, size: number) => Promise<unknown>): Promise<void> {
    const { blkno, size } = await names.lookup(dir, bytes(name));
    try {
      await use(blkno, size);
    } finally {
      await names.forget(blkno);
    }
  }

  #pause(process: Incarnation, ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.world.time.after(ms, () => process.exec(resolve));
    });
  }
}

async function create(names: Namespace, dir: number, name: string, fill: (blkno: number) => Promise<unknown>): Promise<void> {
  const { blkno } = await names.create(dir, bytes(name), FILE);
  try {
    await fill(blkno);
  } finally {
    await names.forget(blkno);
  }
}
