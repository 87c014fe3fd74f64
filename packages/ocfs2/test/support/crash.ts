/**
 * Crash tests of whole volumes: run a script of steps over a recording device, then take images of what a power failure
 * could have left at any request, recover each, and see that it shows a state the script allows.
 *
 * What is allowed. States are numbered by steps. An image must show the names, links and sizes as they were after step k,
 * for one k between the last step that was promised durable before the crash and the last one begun; a step that writes
 * data may show a size between its first and its last. Every byte of a file must be what it was after a step from k up to
 * the last begun one (data written in place is not ordered against later metadata), or zero where one of these steps was
 * zeroing. So what lay on the device before (all free space is filled with `POISON`) or in other files never shows.
 */
import { type CrashImage, FaultyDevice, type FaultyOperation, MemoryDevice, Random, RecordingDevice, crashImage, prefixImages, reorderedImages } from '@lunfs/device';
import { checkVolume } from '../../src/check/index.js';
import type { Dlm } from '../../src/locking/index.js';
import { type MkfsOptions, formatVolume } from '../../src/mkfs/index.js';
import type { Clock } from '../../src/txn/index.js';
import { type MountOptions, Volume } from '../../src/volume/index.js';
import type { Node } from '../volume/tree-model.js';
import { type Found, type Moment, Posix, type Snapshot, type Step, readTree, wrongAttributes, wrongLimits, wrongXattrs } from './posix.js';
import { TestTimers } from './tiny.js';

const MIB = 2 ** 20;

export interface CrashVolume {
  readonly name: string;
  readonly size: number;
  readonly mkfs: MkfsOptions;
}

const LOCAL = { mount: 'local', slots: 1, journalSize: 4 * MIB } as const;

/** Small volumes with small journals; the first is the quick one. */
export const CRASH_VOLUMES: readonly CrashVolume[] = [
  { name: '4K/4K', size: 24 * MIB, mkfs: { ...LOCAL, blockSize: 4096, clusterSize: 4096 } },
  { name: '4K/4K metaecc', size: 24 * MIB, mkfs: { ...LOCAL, blockSize: 4096, clusterSize: 4096, features: 'metaecc' } },
  { name: '4K/1M', size: 150 * MIB, mkfs: { ...LOCAL, journalSize: 9 * MIB, blockSize: 4096, clusterSize: MIB } },
  { name: '1K/4K quota', size: 24 * MIB, mkfs: { ...LOCAL, blockSize: 1024, clusterSize: 4096, features: 'usrquota,grpquota' } },
  { name: '512/4K', size: 24 * MIB, mkfs: { ...LOCAL, blockSize: 512, clusterSize: 4096 } },
  { name: '4K/4K cluster', size: 32 * MIB, mkfs: { blockSize: 4096, clusterSize: 4096, slots: 2, journalSize: 4 * MIB, clusterStack: 'o2cb', clusterName: 'test' } },
];

/** What free space holds before the volume is made. */
export const POISON = Buffer.from('POISON! ');

const templates = new Map<string, Promise<MemoryDevice>>();

/** A fresh volume, the same one every time, free space poisoned. */
export async function poisonedVolume(spec: CrashVolume): Promise<MemoryDevice> {
  let template = templates.get(spec.name);
  if (template === undefined) templates.set(spec.name, (template = format(spec)));
  return (await template).clone();
}

async function format({ size, mkfs, name }: CrashVolume): Promise<MemoryDevice> {
  const device = new MemoryDevice({ size, name });
  const poison = Buffer.alloc(MIB, POISON);
  for (let at = 0; at < size; at += MIB) device.writeSync(at, poison);
  await formatVolume(device, { ...mkfs, discard: false }, { random: new Random(1), time: 1_600_000_000 });
  return device;
}

/** Time that is the same in every run: a second per look at the wall clock, a millisecond per look at the other. */
export class StepClock implements Clock {
  #sec = 1_700_000_000;
  #ms = 0;
  now(): { sec: number; nsec: number } {
    return { sec: this.#sec++, nsec: 123_456_789 };
  }
  monotonic(): number {
    return this.#ms++;
  }
  pass(ms: number): void {
    this.#ms += ms;
  }
}

/** Requests take a few turns of the event loop, as the dice say: those submitted together end in any order. */
export function slowDevice(medium: MemoryDevice, random: Random, turns = 3, asked: (operation: FaultyOperation) => void = () => undefined): FaultyDevice {
  const clock = {
    sleep: async (n: number) => {
      for (let i = 1; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
    },
  };
  const latency = (operation: FaultyOperation): number => {
    asked(operation);
    return 1 + random.int(turns);
  };
  return new FaultyDevice(medium, { random, clock, latency });
}

/** Options that make a mount depend on nothing but its seed. */
export function quietMount(seed: number, more: MountOptions = {}): MountOptions {
  return { clock: new StepClock(), timers: { after: () => () => undefined }, random: new Random(seed), offline: true, pause: async () => undefined, ...more };
}

export interface Recorded {
  readonly recording: RecordingDevice;
  readonly script: readonly Step[];
  /** After each step; the first before any. */
  readonly states: readonly Snapshot[];
  /** Of several scripts that ran at once: the directory this one had to itself, and its name in the marks. */
  readonly lane?: string;
}

interface RecordOptions {
  /** Requests take their time. Default true. */
  readonly slow?: boolean;
  readonly dlm?: Dlm;
}

/** Run a script on a fresh volume to its unmount, and record every request. */
export async function record(spec: CrashVolume, script: readonly Step[], seed: number, options: RecordOptions = {}): Promise<Recorded> {
  const { recording, posix, end } = await begin(spec, seed, options);
  const states = [posix.snapshot()];
  for (const [i, step] of script.entries()) {
    recording.mark(`begin ${i + 1}`);
    const promise = await posix.run(step, i + 1);
    states.push(posix.snapshot());
    if (promise !== undefined) recording.mark(`${promise} ${i + 1}`);
  }
  await end();
  recording.mark(`durable ${script.length}`);
  return { recording, script, states };
}

/**
 * Run scripts at once, each in a directory of its own: they share allocators, journal and every commit. Whatever had
 * ended when one of them was promised something was promised to all, and an image must show each of them a state it allows.
 */
export async function recordTogether(spec: CrashVolume, scripts: readonly { readonly lane: string; readonly script: readonly Step[] }[], seed: number, options: RecordOptions = {}): Promise<Recorded[]> {
  const { recording, posix, end } = await begin(spec, seed, options);
  for (const { lane } of scripts) await posix.run({ do: 'mkdir', path: lane }, 0);
  await posix.run({ do: 'sync' }, 0);
  const lanes = scripts.map(({ lane, script }) => ({ recording, lane, script, states: [posix.snapshot(lane)] }));
  for (const { lane } of lanes) recording.mark(`durable 0 ${lane}`);
  await Promise.all(lanes.map(async ({ lane, script, states }) => {
    for (const [i, step] of script.entries()) {
      recording.mark(`begin ${i + 1} ${lane}`);
      const before = lanes.map((other) => other.states.length - 1);
      const promise = await posix.run(step, i + 1);
      states.push(posix.snapshot(lane));
      if (promise === undefined) continue;
      for (const [k, other] of lanes.entries()) recording.mark(`${promise} ${other.lane === lane ? i + 1 : before[k]} ${other.lane}`);
    }
  }));
  await end();
  for (const { lane, script } of lanes) recording.mark(`durable ${script.length} ${lane}`);
  return lanes;
}

/** A fresh volume, mounted over a recording device, and its model. */
async function begin(spec: CrashVolume, seed: number, options: RecordOptions): Promise<{ recording: RecordingDevice; posix: Posix; end: () => Promise<void> }> {
  const base = await poisonedVolume(spec);
  const recording = new RecordingDevice(base);
  // Below the recording, which wants a memory device to begin with.
  if (options.slow ?? true) Object.assign(recording, { inner: slowDevice(base, new Random(seed)) });
  const timers = new TestTimers(), clock = new StepClock();
  const volume = await Volume.mount(recording, quietMount(seed, { timers, clock, dlm: options.dlm }));
  const dice = new Random(seed);
  const posix = await Posix.begin(volume, () => {
    // Some turns later, and not before there is something to commit: in the midst of the steps that follow.
    let turns = dice.int(8), patience = 50;
    const fire = (): void => {
      if (turns-- > 0 || (timers.pending === 0 && patience-- > 0)) return void setImmediate(fire);
      clock.pass(5000);
      timers.fire();
    };
    fire();
  });
  return { recording, posix, end: () => volume.unmount() };
}

/** Steps between which an image of these marks must show a state. `ordered`: the device lost nothing it had been given. */
function bounds(marks: readonly string[], ordered: boolean, lane: string | undefined): { first: number; last: number } | undefined {
  let first: number | undefined = lane === undefined ? 0 : undefined, last = 0;
  for (const mark of marks) {
    const [what, n, of] = mark.split(' ');
    if (of !== lane) continue;
    if (what === 'begin') last = Number(n);
    else if (what === 'durable' || (ordered && what === 'logged')) first = Math.max(first ?? 0, Number(n));
  }
  return first === undefined ? undefined : { first, last };
}

/** Codes of findings that a recovered volume may have. */
export const MAY_BE_LEFT: readonly string[] = ['INODE_SPARSE_SIZE', 'LOSTFOUND_MISSING'];

/** Recover an image (its device is changed) and check all there is to check; the volume is clean and unmounted after it. `recorded`: all that ran on it. */
export async function checkImage(recorded: readonly Recorded[], image: CrashImage, dlm?: Dlm): Promise<Moment<Found>> {
  const volume = await Volume.mount(image.device, quietMount(image.seed ?? 1, { dlm }));
  const tree = await readTree(volume);
  for (const one of recorded) expectAllowed(one, tree, image);
  if (volume.recovery.orphans!.errors.length > 0) throw volume.recovery.orphans!.errors[0];
  await volume.unmount();
  // Clusters reserved beyond the size are legal, and so is what a truncate was cut off from freeing (Linux leaves it too).
  const findings = (await checkVolume(image.device)).findings.filter((f) => !MAY_BE_LEFT.includes(f.code));
  if (findings.length > 0) throw new Error(`our verifier: ${findings.map((f) => `[${f.code}] ${f.message}`).join('\n')}`);
  return tree;
}

/** Throws unless a recovered tree is allowed by the script after a crash at an image's marks. */
export function expectAllowed({ states, script, lane }: Pick<Recorded, 'states' | 'script' | 'lane'>, whole: Moment<Found>, image: Pick<CrashImage, 'marks' | 'seed'>): void {
  const range = bounds(image.marks, image.seed === undefined, lane);
  if (range === undefined) return; // before the scripts began
  const { first, last } = range;
  const tree = lane === undefined ? whole : new Map([...whole].filter(([path]) => path === lane || path.startsWith(`${lane}/`)));
  const why: string[] = [];
  for (let k = first; k <= last; k++) {
    // Of limits the lanes have one set for all.
    const reason = (lane === undefined ? wrongLimits(whole.limits, states[k].limits) : undefined) ?? mismatch(states, script, tree, k, last);
    if (reason === undefined) return;
    why.push(`not as after step ${k}${k > 0 ? ` (${JSON.stringify(script[k - 1])})` : ''}: ${reason}`);
  }
  throw new Error([...(lane === undefined ? [] : [`in ${lane}:`]), ...why.slice(0, 12)].join('\n'));
}

/** Why the tree is not what step `k` left, with data up to step `last`; undefined if it is. */
function mismatch(states: readonly Snapshot[], script: readonly Step[], tree: ReadonlyMap<string, Found>, k: number, last: number): string | undefined {
  const state = states[k];
  for (const path of tree.keys()) if (!state.has(path)) return `"${path}" is there`;
  for (const [path, { node, links, attributes, xattrs }] of state) {
    const found = tree.get(path);
    if (found === undefined) return `"${path}" is missing`;
    if (found.ino !== node.blkno) return `"${path}" is inode ${found.ino}, not ${node.blkno}`;
    if (found.kind !== node.kind || found.target !== node.target) return `"${path}" is a ${found.kind} to "${found.target}"`;
    if (found.links !== links) return `"${path}" has ${found.links} links, not ${links}`;
    const wrong = wrongAttributes(found.attributes, attributes) ?? wrongXattrs(found.xattrs, xattrs);
    if (wrong !== undefined) return `"${path}": ${wrong}`;
    if (node.kind !== 'file') continue;
    const reason = wrongContent(states, script, node, found.content, k, last);
    if (reason !== undefined) return `"${path}": ${reason}`;
  }
  return undefined;
}

/** Steps that may zero before they are done, and those that may grow a file in several operations. */
const ZEROING: readonly Step['do'][] = ['truncate', 'punch', 'zero', 'share', 'export'];
const GROWING: readonly Step['do'][] = ['write', 'reserve', 'zero', 'share', 'thick'];

function wrongContent(states: readonly Snapshot[], script: readonly Step[], node: Node, got: Uint8Array, k: number, last: number): string | undefined {
  const versions: Uint8Array[] = [];
  let zeroed = false;
  for (let j = k; j <= last; j++) {
    const content = contentAt(states[j], node);
    if (content === undefined) break;
    if (versions.at(-1) !== content) versions.push(content);
    if (j > k && ZEROING.includes(script[j - 1].do)) zeroed = true;
  }
  const size = versions[0].length, next = k < last ? (contentAt(states[k + 1], node)?.length ?? size) : size;
  const growing = k < last && GROWING.includes(script[k].do);
  if (growing ? got.length < Math.min(size, next) || got.length > Math.max(size, next) : got.length !== size) return `${got.length} bytes, not ${size}`;
  if (versions.some((v) => Buffer.compare(v, got) === 0)) return undefined;
  for (let i = 0; i < got.length; i++) {
    if ((zeroed && got[i] === 0) || versions.some((v) => v[i] === got[i])) continue;
    return `byte ${i} is ${got[i]} (${JSON.stringify(Buffer.from(got.subarray(i, i + 16)).toString('latin1'))}), not ${versions.map((v) => v[i]).join(' or ')}`;
  }
  return undefined;
}

/**
 * Images of what a power failure in the middle of an image's recovery, or of the unmount after it, could leave; to be
 * checked against the same script. `image` is not changed.
 */
export async function* imagesOfRecovery(image: CrashImage, random: Random, count: number): AsyncGenerator<CrashImage & { readonly inner: string }> {
  const recording = await recordRecovery(image);
  const points = new Set(Array.from({ length: count }, () => random.int(recording.log.length + 1)));
  const again = (inner: CrashImage) => ({ ...image, device: inner.device, inner: pointText(inner) });
  for (const inner of prefixImages(recording, (p) => points.has(p))) yield again(inner);
  for (const inner of reorderedImages(recording, random, { select: (p) => points.has(p) })) yield again(inner);
}

async function recordRecovery(image: CrashImage): Promise<RecordingDevice> {
  const recording = new RecordingDevice(image.device.clone());
  await (await Volume.mount(recording, quietMount(image.seed ?? 1))).unmount();
  return recording;
}

export function pointText({ point, seed }: { readonly point: number; readonly seed?: number }): string {
  return seed === undefined ? String(point) : `${point}.${seed}`;
}

/** The image a failure named: POINT[.SEED], and behind a slash the point within its recovery. */
export async function imageAt(recording: RecordingDevice, text: string): Promise<CrashImage> {
  const [outer, inner] = text.split('/');
  const image = find(recording, outer);
  return inner === undefined ? image : { ...image, device: find(await recordRecovery(image), inner).device };
}

function find(recording: RecordingDevice, text: string): CrashImage {
  const [point, seed] = text.split('.').map(Number);
  if (seed !== undefined) return crashImage(recording, point, seed);
  const image = [...prefixImages(recording, (p) => p === point)].at(0);
  if (image === undefined) throw new Error(`point ${point} is no change`);
  return image;
}

const contents = new WeakMap<Snapshot, Map<Node, Uint8Array>>();

function contentAt(state: Snapshot, node: Node): Uint8Array | undefined {
  let map = contents.get(state);
  if (map === undefined) {
    contents.set(state, (map = new Map<Node, Uint8Array>()));
    for (const entry of state.values()) map.set(entry.node, entry.content);
  }
  return map.get(node);
}
