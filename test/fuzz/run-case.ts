/**
 * One case: a sound volume, one thing on it changed, everything done with it that can be done, and what must hold then:
 *  - each step ends with success or with an error of the tree (errors.ts) that is no bug of ours; a corruption error names
 *    block, structure and field;
 *  - within a bound of device requests and bytes, so that nothing runs in circles or believes a size it read;
 *  - the files that the case does not name come out as they went in;
 *  - the verifier finds what was broken, under the name that expectations.ts says.
 * A case is all in its number: the dice come from it, so it replays alone.
 */
import { type BlockDevice, CorruptionError, LunfsError, type MemoryDevice, Random } from '@lunfs/device';
import {
  type CheckReport, MODE, RawReader, S_IFMT, Volume, checkVolume, fallocate, fileExtents, punchHole, readFile, seekHole, shareRange, stampCheck, truncateFile, verifyCheck, writeFile,
} from '@lunfs/ocfs2';
import { type Catalogue, catalogue, checkCatalogue } from './catalogue.js';
import { judgeFindings, mayGiveAway } from './expectations.js';
import { mutate, mutateBlock } from './mutations.js';
import type { Schedule, Task } from './schedule.js';
import { type FuzzVolume, pattern, quietMount } from './volumes.js';

/** Requests and bytes that one pass over one of these volumes may take: some ten times what a sound one does. */
const MAX_REQUESTS = 40_000;
const MAX_BYTES = 400 * 2 ** 20;

/** A fault of ours that a case brought to light. */
export class CaseFailed extends Error {}

/** Not an error of the tree: nothing may catch and mend it. */
class BoundExceeded extends Error {}

/** Counts what it passes on. */
class BoundedDevice implements BlockDevice {
  readonly canDiscard = true;
  requests = 0;
  bytes = 0;

  constructor(readonly below: MemoryDevice) {}

  get name(): string {
    return this.below.name;
  }
  get size(): number {
    return this.below.size;
  }
  get logicalBlockSize(): number {
    return this.below.logicalBlockSize;
  }
  get readOnly(): boolean {
    return this.below.readOnly;
  }
  read(offset: number, into: Uint8Array): Promise<void> {
    this.#count(into.length);
    return this.below.read(offset, into);
  }
  write(offset: number, from: Uint8Array): Promise<void> {
    this.#count(from.length);
    return this.below.write(offset, from);
  }
  writeZeroes(offset: number, length: number): Promise<void> {
    this.#count(length);
    return this.below.writeZeroes(offset, length);
  }
  discard(offset: number, length: number): Promise<void> {
    this.#count(0);
    return this.below.discard(offset, length);
  }
  flush(): Promise<void> {
    this.#count(0);
    return this.below.flush();
  }
  close(): Promise<void> {
    return this.below.close();
  }

  #count(bytes: number): void {
    this.requests++;
    this.bytes += bytes;
    if (this.requests > MAX_REQUESTS || this.bytes > MAX_BYTES) throw new BoundExceeded(`${this.requests} requests, ${this.bytes} bytes: it runs in circles`);
  }
}

/** A volume with all that its cases need. */
export interface Target {
  readonly volume: FuzzVolume;
  readonly reader: RawReader;
  readonly catalogue: Catalogue;
  readonly read: (blkno: number) => Uint8Array;
  /** What the verifier says of the sound volume. */
  readonly clean: CheckReport;
}

export async function prepare(volume: FuzzVolume): Promise<Target> {
  const reader = await RawReader.open(volume.device);
  const listed = await catalogue(reader);
  checkCatalogue(listed);
  const clean = await checkVolume(volume.device);
  if (!clean.clean && !volume.dirty) throw new Error(`${volume.name} is not sound to begin with: ${clean.findings.map((f) => f.message).join('; ')}`);
  const read = (blkno: number): Uint8Array => {
    const bytes = new Uint8Array(listed.blocks.get(blkno)!.size);
    volume.device.readSync(blkno * reader.geo.blockSize, bytes);
    return bytes;
  };
  return { volume, reader, catalogue: listed, read, clean };
}

export interface Case {
  readonly number: number;
  readonly what: Task['what'];
  readonly target: Target;
  /** What was done, for messages. */
  readonly text: string;
  /** Class of the field; undefined: a whole block. */
  readonly cls: string | undefined;
  /** The check of the block does not match what is in it. */
  readonly stale: boolean;
  /** Bits that differ, the check apart. */
  readonly bits: number;
  /** A block that became another, maybe where neither says anything. */
  readonly mayBeNothing: boolean;
  readonly blkno: number;
  /** Inode the block belongs to. */
  readonly owner: number;
  readonly device: MemoryDevice;
  readonly random: Random;
}

/** The case of a number. */
export function makeCase(targets: readonly Target[], schedule: Schedule, seed: number, number: number): Case {
  const random = new Random(seed * 1_000_003 + number);
  const task = schedule.task(number, random);
  const target = targets[task.target];
  const { volume, catalogue: listed, reader, read } = target;
  const { geo } = reader;
  const surroundings = { geo, catalogue: listed, random, read };
  const device = volume.device.clone();
  const place = random.pick(listed.byClass.get(task.cls)!);
  const whole = typeof task.mutation === 'object';
  const { blkno, checkAt } = place;
  const before = read(blkno);
  let bytes: Uint8Array, text: string, mayBeNothing = false;
  if (typeof task.mutation === 'object') {
    bytes = mutateBlock(blkno, task.mutation.block, surroundings);
    const { kind } = listed.blocks.get(blkno)!;
    mayBeNothing = task.mutation.block === 'half of another block' || Buffer.compare(before, bytes) === 0 || /^(journal|slot map|heartbeat|local quota (chunk|entries))/.test(kind);
    text = `block ${blkno} (${kind}) becomes ${task.mutation.block}`;
  } else {
    const field = mutate(place, task.mutation, surroundings);
    bytes = read(blkno);
    text = `${place.cls} in block ${blkno} byte ${place.off}: ${hex(bytes.subarray(place.off, place.off + place.size))} becomes ${hex(field)} (${task.mutation})`;
    bytes.set(field, place.off);
  }
  const own = place.cls.endsWith('.check');
  const bits = flippedBits(before, bytes);
  // A block that took another's place may have brought a good check with it.
  const stale = volume.metaecc && checkAt >= 0 && (own || (task.stale ?? random.int(3) === 0)) && verifyCheck(bytes.slice(), checkAt) !== 'ok';
  if (volume.metaecc && checkAt >= 0 && !stale) stampCheck(bytes, checkAt);
  device.writeSync(blkno * geo.blockSize, bytes);
  return {
    number, what: task.what, target, text: `${task.what}, ${volume.name}: ${text}${stale ? ', its check left wrong' : ''}`, cls: whole ? undefined : place.cls, stale, bits, mayBeNothing, blkno, owner: place.owner, device, random,
  };
}

function flippedBits(a: Uint8Array, b: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) for (let x = a[i] ^ b[i]; x !== 0; x &= x - 1) sum++;
  return sum;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Runs steps and judges how each ends. */
class Steps {
  readonly errors: LunfsError[] = [];

  async step<T>(name: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.errors.push(judgeError(name, error));
      return undefined;
    }
  }
}

function judgeError(step: string, error: unknown): LunfsError {
  if (!(error instanceof LunfsError)) throw new CaseFailed(`${step}: ${error instanceof Error ? error.stack : String(error)}`, { cause: error });
  if (error.kind === 'internal') throw new CaseFailed(`${step}: taken for a bug of ours: ${error.stack}`, { cause: error });
  const { block, structure, field } = error.fields;
  const named = (typeof block === 'number' && typeof structure === 'string' && typeof field === 'string') || error.code === 'SYSTEM_FILE_MISSING';
  if (error instanceof CorruptionError && !named) throw new CaseFailed(`${step}: names not block, structure and field: ${error.stack}`, { cause: error });
  return error;
}

/** Read everything below an inode, through a mounted volume. */
async function readBelow(volume: Volume, top: number, steps: Steps): Promise<void> {
  const { names } = volume;
  const seen = new Set<number>();
  const visit = async (blkno: number): Promise<void> => {
    if (seen.has(blkno)) return;
    seen.add(blkno);
    for (const { child } of await readInode(volume, blkno, steps)) await visit(child);
  };
  await visit(top);
  await steps.step('statfs', () => names.statistics());
}

/** Read one inode, all that it has. Gives the entries of a directory. */
async function readInode(volume: Volume, blkno: number, steps: Steps): Promise<{ child: number; name: Uint8Array }[]> {
  const { names, ctx } = volume;
  const entries: { child: number; name: Uint8Array }[] = [];
  const attr = await steps.step('attributes', () => names.attributes(blkno));
  if (attr === undefined) return entries;
  const type = attr.mode & S_IFMT;
  if (volume.geo.xattr) {
    const all = (await steps.step('listxattr', () => names.listXattr(blkno))) ?? [];
    for (const name of [...all.slice(0, 4), ...all.slice(-1)]) await steps.step('getxattr', () => names.getXattr(blkno, name));
  }
  if (type === MODE.LNK) await steps.step('readlink', () => names.readlink(blkno));
  if (type === MODE.REG) {
    const buffer = new Uint8Array(16 << 10);
    await steps.step('read', () => readFile(ctx, blkno, 0, buffer));
    await steps.step('read the end', () => readFile(ctx, blkno, Math.max(0, attr.size - buffer.length), buffer));
    await steps.step('seek', () => seekHole(ctx, blkno, 0));
    await steps.step('extents', () => fileExtents(ctx, blkno, 0, 1000));
  }
  for (let position = 0, turns = 0, end = type !== MODE.DIR; !end; turns++) {
    const from = position;
    const part = await steps.step('readdir', () => names.readdir(blkno, from, 64));
    if (part === undefined) break;
    if (turns > 10_000) throw new CaseFailed(`the listing of ${blkno} does not end`);
    for (const { name, blkno: child, next } of part.entries) {
      if (next <= position) throw new CaseFailed(`the listing of ${blkno} does not advance from ${position}`);
      position = next;
      const text = Buffer.from(name).toString('latin1');
      if (text !== '.' && text !== '..') entries.push({ child, name });
    }
    end = part.end;
    if (!end && part.entries.length === 0) throw new CaseFailed(`the listing of ${blkno} stands still at ${position}`);
  }
  for (const { name } of [...entries.slice(0, 2), ...entries.slice(-1)]) {
    const found = await steps.step('lookup', () => names.lookup(blkno, name));
    if (found !== undefined) await steps.step('forget', () => names.forget(found.blkno));
  }
  return entries;
}

/** The inode that the broken block belongs to, by its name; of the system's files, what uses them. */
async function readOwner(volume: Volume, { owner, target }: Case, steps: Steps): Promise<void> {
  const { names } = volume;
  const path = target.catalogue.names.get(owner);
  if (path !== undefined) {
    const found = await steps.step('lookup', () => names.lookup(path.dir, path.name));
    if (found !== undefined) await steps.step('forget', () => names.forget(found.blkno));
  } else {
    await steps.step('statfs', () => names.statistics());
    const files = target.catalogue.sys.quota.find(({ global, local }) => global === owner || local.includes(owner));
    for (const type of files === undefined || volume.quota === undefined ? [] : [files.type]) await steps.step('quota report', () => volume.quota!.report(type));
  }
  await readInode(volume, path === undefined ? names.root : owner, steps);
}

const FILE = { mode: 0o100644, uid: 0, gid: 0 }, DIRECTORY = { mode: 0o040755, uid: 0, gid: 0 };
const name = (text: string) => Buffer.from(text);

/** Share of the changes below that one case makes, in their order: together they take the longest of all. */
const CHANGES = 0.2;

/** Change what is below `change`, in all the ways there are, or in some of them. */
async function changeSome(volume: Volume, steps: Steps, random: Random): Promise<void> {
  const { names, ctx } = volume;
  const { clusterSize, sparse } = volume.geo;
  const find = async (dir: number, text: string): Promise<number | undefined> => {
    const found = await steps.step(`lookup ${text}`, () => names.lookup(dir, name(text)));
    if (found !== undefined) await steps.step('forget', () => names.forget(found.blkno));
    return found?.blkno;
  };
  const top = await find(names.root, 'change');
  if (top === undefined) return;
  const fresh = async (dir: number, text: string, spec: Parameters<typeof names.create>[2]): Promise<number | undefined> => {
    const made = await steps.step(`create ${text}`, () => names.create(dir, name(text), spec));
    if (made !== undefined) await steps.step('forget', () => names.forget(made.blkno));
    return made?.blkno;
  };
  /** A change of something below `change`. */
  const of = (text: string, work: (blkno: number) => Promise<unknown>) => async (): Promise<void> => {
    const blkno = await find(top, text);
    if (blkno !== undefined) await steps.step(`change of ${text}`, () => work(blkno));
  };
  const move = async (oldDir: number, oldName: string, newName: string): Promise<void> => {
    const newDir = await find(top, 'medium directory');
    if (newDir !== undefined) await names.rename({ oldDir, oldName: name(oldName), newDir, newName: name(newName) });
  };
  const changes: (() => Promise<unknown>)[] = [
    async () => {
      const file = await fresh(top, 'new file', FILE);
      if (file !== undefined) await steps.step('write a new file', () => writeFile(ctx, file, 0, pattern(3 * clusterSize + 5, 1)));
    },
    async () => {
      const dir = await fresh(top, 'new directory', DIRECTORY);
      if (dir !== undefined) await fresh(dir, 'in it', FILE);
    },
    () => fresh(top, 'new symlink', { ...FILE, mode: 0o120777, target: name('somewhere') }),
    of('small', (ino) => writeFile(ctx, ino, 2000, pattern(9000, 2))),
    of('plain', (ino) => writeFile(ctx, ino, 'append', pattern(clusterSize, 3))),
    of('deep', (ino) => writeFile(ctx, ino, clusterSize, pattern(clusterSize, 4))),
    of('deep', (ino) => truncateFile(ctx, ino, 30 * clusterSize)),
    of('reserved', (ino) => writeFile(ctx, ino, 2 * clusterSize, pattern(100, 5))),
    of('deep', (ino) => (sparse ? punchHole(ctx, ino, 2 * clusterSize, 8 * clusterSize) : Promise.resolve())),
    of('reserved', (ino) => (sparse ? fallocate(ctx, ino, 'reserve', 8 * clusterSize, 4 * clusterSize, true) : Promise.resolve())),
    of('large directory', (ino) => names.unlink(ino, name('another name of it 3'))),
    of('large directory', (ino) => fresh(ino, 'one more entry', FILE)),
    of('medium directory', (ino) => fresh(ino, 'one more entry', FILE)),
    of('large directory', (ino) => move(ino, 'another name of it 5', 'moved')),
    of('inline directory', () => move(top, 'inline directory', 'moved directory')),
    of('plain', (ino) => names.link(ino, top, name('new name')).then(() => names.forget(ino))),
    of('plain', (ino) => names.change(ino, { mode: 0o600 })),
    ...features(volume, of),
    ...['deep', 'fast', 'slow', 'fifo', 'plain', 'small', 'many attributes', 'clone', 'shared', 'attributes in a block'].map((text) => of(text, () => names.unlink(top, name(text)))),
  ];
  for (const change of changes) if (random.chance(CHANGES)) await change();
  await steps.step('sync', () => volume.sync());
}

/** Changes of what only some volumes have. */
function features({ names, ctx, geo, quota }: Volume, of: (text: string, work: (blkno: number) => Promise<unknown>) => () => Promise<void>): (() => Promise<unknown>)[] {
  const { clusterSize } = geo;
  const set = (text: string, attribute: string, length: number) => of(text, (ino) => names.setXattr(ino, name(attribute), pattern(length, length)));
  const attributes = [
    set('attributes', 'user.a', 60), set('attributes', 'user.new', 75), set('attributes in a block', 'user.big', 200), set('attributes in a block', 'user.large', 9000), set('many attributes', `user.7${'n'.repeat(180)}`, 500),
    set('many attributes', 'user.one more', 70), of('many attributes', (ino) => names.removeXattr(ino, name(`user.20${'n'.repeat(180)}`))), set('plain', 'user.first', 10), set('medium directory', 'user.d', 100),
  ];
  const shared = [
    of('shared', (ino) => writeFile(ctx, ino, 2 * clusterSize, pattern(clusterSize, 6))), of('clone', (ino) => writeFile(ctx, ino, clusterSize, pattern(10, 7))), of('other clone', (ino) => truncateFile(ctx, ino, 3 * clusterSize)),
    of('shared', (ino) => punchHole(ctx, ino, 3 * clusterSize, clusterSize)), of('clone', (ino) => of('plain', (target) => shareRange(ctx, { source: ino, from: 0, target, to: 4 * clusterSize, length: 2 * clusterSize }))()),
  ];
  const limited = (quota?.types ?? []).flatMap((type) => [
    () => of('small', () => quota!.setLimits(type, 2003, { spaceHard: 0 }))(), () => of('small', () => quota!.setLimits(type, 2900, { inodeSoft: 7 }))(), of('plain', (ino) => names.change(ino, type === 'user' ? { uid: 2004 } : { gid: 2005 })),
  ]);
  return [...(geo.xattr ? attributes : []), ...(geo.refcount ? shared : []), ...limited];
}

/** What must be as it was: everything of the files under `keep`. */
function compareKept(one: Case): void {
  const after = one.device;
  const { catalogue: listed, volume, reader } = one.target;
  const own = one.blkno * reader.geo.blockSize;
  for (const { from, to, what } of listed.kept) {
    // A time of access is kept where the case read the very inode it broke.
    if (from === own || what.endsWith(` kept inode ${one.owner}`)) continue;
    const before = new Uint8Array(to - from), now = new Uint8Array(to - from);
    volume.device.readSync(from, before);
    after.readSync(from, now);
    if (Buffer.compare(before, now) !== 0) throw new CaseFailed(`damage elsewhere: ${what} has changed`);
  }
}

async function mounted(one: Case, steps: Steps, readOnly: boolean, work: (volume: Volume) => Promise<void>): Promise<void> {
  const device = new BoundedDevice(one.device);
  const volume = await steps.step('mount', () => Volume.mount(device, { ...quietMount(one.number), readOnly }));
  if (volume === undefined) return;
  await work(volume);
  await steps.step('unmount', () => volume.unmount());
}

/** Run the case. Throws CaseFailed. */
export async function runCase(one: Case): Promise<void> {
  try {
    await { verify, change, read }[one.what](one);
  } catch (error) {
    if (error instanceof CaseFailed) throw error;
    throw new CaseFailed(error instanceof Error ? (error.stack ?? error.message) : String(error), { cause: error });
  }
}

async function verify(one: Case): Promise<void> {
  let report: CheckReport | undefined, refused: LunfsError | undefined;
  try {
    report = await checkVolume(new BoundedDevice(one.device));
  } catch (error) {
    refused = judgeError('check', error);
  }
  judgeFindings(one, report, refused);
}

async function read(one: Case): Promise<void> {
  const steps = new Steps();
  // Recovery at mount is a matter of its own; a volume that needs none mounts the faster.
  const readOnly = one.random.int(8) > 0;
  await mounted(one, steps, readOnly, async (volume) => {
    await readOwner(volume, one, steps);
    if (readOnly && one.random.int(32) === 0) await readBelow(volume, volume.names.root, steps);
  });
}

async function change(one: Case): Promise<void> {
  const steps = new Steps();
  await mounted(one, steps, false, async (volume) => {
    if (one.random.int(2) === 0) await readOwner(volume, one, steps);
    await changeSome(volume, steps, one.random);
  });
  if (one.stale || !mayGiveAway(one)) compareKept(one);
}
