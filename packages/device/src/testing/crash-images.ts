/**
 * Every image a power failure could have left of a recorded run (docs/design.md, rule 7).
 *
 * `prefixImages`: the device kept every change in order and stopped at some point. `reorderedImages`: of the changes that no
 * flush covers, any subset survived, some of them torn. A later change of the same block never loses to an earlier one
 * that survived with it: surviving changes are applied in the order of the log.
 *
 * Each image is a copy-on-write clone of its predecessor plus the difference, so enumerating thousands copies no gigabytes;
 * images are independent and writable, so recovery can run on them.
 */
import { UsageError } from '../errors.js';
import type { MemoryDevice } from '../memory-device.js';
import { Random } from '../random.js';
import { applyChange, applySurvivors } from './changes.js';
import { isChange, type RecordingDevice } from './recording-device.js';

export interface CrashImage {
  /** Number of log entries submitted before the power failed. */
  readonly point: number;
  /** Seed of the dice that chose what survived; undefined for a prefix image. */
  readonly seed?: number;
  /** Labels of the marks before the point. */
  readonly marks: readonly string[];
  readonly device: MemoryDevice;
}

/** Which points to visit: all by default. Points not selected cost only their changes. */
export type PointFilter = (point: number) => boolean;

/** The image after every prefix of the changes: the untouched base first, the whole run last. */
export function* prefixImages(recording: RecordingDevice, select: PointFilter = () => true): Generator<CrashImage> {
  const { base, log } = begin(recording);
  const current = base.clone();
  const marks: string[] = [];
  for (let point = 0; ; point++) {
    const entry = log[point - 1];
    if (entry?.kind === 'mark') marks.push(entry.label);
    else if (entry && isChange(entry)) applyChange(current, entry);
    const visible = !entry || isChange(entry) || point === log.length;
    if (visible && select(point)) yield { point, marks: [...marks], device: current.clone(`${base.name}, crash at ${point}`) };
    if (point === log.length) return;
  }
}

/**
 * Images with reordering: at every point, `perPoint` draws of what survived of the changes not covered by a flush.
 * The seed of each image is drawn from `random`; `crashImage` rebuilds one from its point and seed.
 */
export function* reorderedImages(
  recording: RecordingDevice,
  random: Random,
  options: { perPoint?: number; select?: PointFilter } = {},
): Generator<CrashImage> {
  const walk = new DurableWalk(recording);
  const select = options.select ?? (() => true);
  for (let point = 0; point <= recording.log.length; point++) {
    walk.advance(point);
    if (!select(point)) continue;
    for (let i = 0; i < (options.perPoint ?? 1); i++) yield walk.image(random.u32());
  }
}

/** The one reordered image of a point and seed that an earlier enumeration printed. */
export function crashImage(recording: RecordingDevice, point: number, seed: number): CrashImage {
  const walk = new DurableWalk(recording);
  for (let p = 0; p <= point; p++) walk.advance(p);
  return walk.image(seed);
}

/** Walks the log once; `#stable` holds the base and all changes of the log's longest fully durable prefix. */
class DurableWalk {
  readonly #recording: RecordingDevice;
  readonly #stable: MemoryDevice;
  readonly #covered = new Set<number>();
  readonly #marks: string[] = [];
  #stableUpTo = 0;
  #point = 0;

  constructor(recording: RecordingDevice) {
    this.#recording = recording;
    this.#stable = begin(recording).base.clone();
  }

  advance(point: number): void {
    this.#point = point;
    const log = this.#recording.log;
    const entry = log[point - 1];
    if (!entry) return;
    if (entry.kind === 'mark') this.#marks.push(entry.label);
    if (entry.kind !== 'flush') return;
    for (let i = this.#stableUpTo; i < entry.upTo; i++) if (!entry.except.has(i)) this.#covered.add(i);
    for (; this.#stableUpTo < entry.upTo; this.#stableUpTo++) {
      const next = log[this.#stableUpTo];
      if (!isChange(next)) continue;
      if (!this.#covered.delete(this.#stableUpTo)) break;
      applyChange(this.#stable, next);
    }
  }

  image(seed: number): CrashImage {
    const random = new Random(seed);
    const device = this.#stable.clone(`${this.#stable.name}, crash at ${this.#point}, seed ${seed}`);
    for (let i = this.#stableUpTo; i < this.#point; i++) {
      const entry = this.#recording.log[i];
      if (!isChange(entry)) continue;
      if (this.#covered.has(i)) applyChange(device, entry);
      else applySurvivors(device, entry, random);
    }
    return { point: this.#point, seed, marks: [...this.#marks], device };
  }
}

function begin(recording: RecordingDevice): { base: MemoryDevice; log: RecordingDevice['log'] } {
  if (!recording.base)
    throw new UsageError('DEVICE_NO_BASE', 'EINVAL', `${recording.name}: crash images need a recording over a MemoryDevice`);
  return { base: recording.base, log: recording.log };
}
