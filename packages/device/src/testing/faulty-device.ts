/**
 * A device that fails as real ones do: errors on chosen or random requests, latency on an injected clock, and at a power
 * failure (`crash`) the loss of any of the changes that no flush covers, torn at logical blocks.
 *
 * Two copies of the content: `current`, what reads see, and `stable`, what is certain to survive. Invariant: `stable` plus
 * `#pending` in order is `current`, but for what a failed flush has silently lost (a later flush then succeeds over the loss,
 * as Linux reports such an error once).
 */
import type { BlockDevice } from '../block-device.js';
import type { ErrnoName } from '../errors.js';
import { IoError } from '../errors.js';
import { type Operation, ioError } from '../io-error.js';
import type { MemoryDevice } from '../memory-device.js';
import type { Random } from '../random.js';
import { checkRange, checkWritable } from '../range-check.js';
import { type Change, applyChange, applySurvivors } from './changes.js';

/** The requests that can fail. */
export type FaultyOperation = Exclude<Operation, 'close'>;

/** When a request fails. All given conditions must hold. */
export interface FaultRule {
  /** Default: all. */
  readonly operations?: readonly FaultyOperation[];
  /** Only requests that touch [from, to) in bytes. Flushes touch nothing. */
  readonly range?: readonly [from: number, to: number];
  /** Let so many matching requests pass first. */
  readonly after?: number;
  /** Fail at most so many. Default: no limit. */
  readonly times?: number;
  /** Chance of each matching request to fail. Default 1. */
  readonly probability?: number;
  /** Default EIO. */
  readonly errno?: ErrnoName;
}

/** Time as the simulator or a test keeps it, milliseconds. */
export interface Sleeper {
  sleep(milliseconds: number): Promise<void>;
}

export interface FaultyOptions {
  readonly random: Random;
  readonly name?: string;
  /** With `latency`: how the time passes. */
  readonly clock?: Sleeper;
  /** Milliseconds a request takes. Default 0: it is done at once. */
  readonly latency?: (operation: FaultyOperation, length: number, random: Random) => number;
}

export class FaultyDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly readOnly: boolean;
  readonly canDiscard = true;
  readonly #options: FaultyOptions;
  readonly #random: Random;
  readonly #rules = new Set<FaultRule & { seen: number; failed: number }>();
  #current: MemoryDevice;
  #stable: MemoryDevice;
  /** Changes made since the last flush that covered them, in the order they were made. */
  #pending: Change[] = [];
  /** Changes submitted and not yet made. */
  #inFlight = new Set<Change>();
  /** Raised by every crash; requests of an older power cycle never succeed. */
  #powerCycle = 0;

  /** The content of `medium` is where the device begins; the medium itself is not changed. */
  constructor(medium: MemoryDevice, options: FaultyOptions) {
    this.name = options.name ?? `faulty ${medium.name}`;
    this.size = medium.size;
    this.logicalBlockSize = medium.logicalBlockSize;
    this.readOnly = medium.readOnly;
    this.#options = options;
    this.#random = options.random;
    this.#current = medium.clone();
    this.#stable = medium.clone();
  }

  /** Make requests fail by the rule, until the returned function is called. */
  fail(rule: FaultRule): () => void {
    const entry = { ...rule, seen: 0, failed: 0 };
    this.#rules.add(entry);
    return () => void this.#rules.delete(entry);
  }

  /** Number of changes a crash could lose now. */
  get unflushed(): number {
    return this.#pending.length + this.#inFlight.size;
  }

  /**
   * Power failure and restart: every change not covered by a flush is kept, lost or torn, by the dice. Requests in flight
   * fail with DEVICE_CRASHED. The device can be used again at once.
   */
  crash(): void {
    this.#powerCycle++;
    for (const change of [...this.#pending, ...this.#inFlight]) applySurvivors(this.#stable, change, this.#random);
    this.#pending = [];
    this.#inFlight.clear();
    this.#current = this.#stable.clone();
  }

  /** A copy of what reads would see now. */
  snapshot(): MemoryDevice {
    return this.#current.clone();
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    checkRange(this, offset, into.length);
    await this.#pass('read', offset, into.length);
    this.#current.readSync(offset, into);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    await this.#change('write', { kind: 'write', offset, length: from.length, bytes: from.slice() });
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.#change('zero', { kind: 'zeroes', offset, length });
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#change('discard', { kind: 'discard', offset, length });
  }

  async flush(): Promise<void> {
    const covered = new Set(this.#pending);
    try {
      await this.#pass('flush', 0, 0);
    } catch (error) {
      // Each covered change may have reached the medium or not, and no later flush will try it again.
      if (!isCrash(error)) this.#settle(covered, (change) => applySurvivors(this.#stable, change, this.#random));
      throw error;
    }
    this.#settle(covered, (change) => applyChange(this.#stable, change));
  }

  async close(): Promise<void> {}

  #settle(covered: ReadonlySet<Change>, settle: (change: Change) => void): void {
    for (const change of this.#pending) if (covered.has(change)) settle(change);
    this.#pending = this.#pending.filter((change) => !covered.has(change));
  }

  async #change(operation: FaultyOperation, change: Change): Promise<void> {
    checkWritable(this);
    checkRange(this, change.offset, change.length);
    this.#inFlight.add(change);
    try {
      await this.#pass(operation, change.offset, change.length);
    } catch (error) {
      // A failed write may have done part of its work: what is there now is there for good.
      if (!isCrash(error)) this.#partly(change);
      throw error;
    } finally {
      this.#inFlight.delete(change);
    }
    applyChange(this.#current, change);
    this.#pending.push(change);
  }

  /** Leave a random part of a failed change, the same part in what is seen and in what may survive. */
  #partly(change: Change): void {
    const seen = this.#current.clone();
    applySurvivors(seen, change, this.#random);
    const bytes = new Uint8Array(change.length);
    seen.readSync(change.offset, bytes);
    const outcome: Change = { kind: 'write', offset: change.offset, length: change.length, bytes };
    applyChange(this.#current, outcome);
    this.#pending.push(outcome);
  }

  /** Time and fate of a request: resolves when it is to be done, rejects if it fails. */
  async #pass(operation: FaultyOperation, offset: number, length: number): Promise<void> {
    const cycle = this.#powerCycle;
    const latency = this.#options.latency?.(operation, length, this.#random) ?? 0;
    if (latency > 0) await this.#options.clock?.sleep(latency);
    if (cycle !== this.#powerCycle) {
      throw new IoError('DEVICE_CRASHED', `${this.name}: power failed during ${operation} of ${length} bytes at byte ${offset}`, {
        device: this.name,
        offset,
        length,
      });
    }
    for (const rule of this.#rules) {
      if (rule.operations && !rule.operations.includes(operation)) continue;
      if (rule.range && !(offset < rule.range[1] && offset + length > rule.range[0])) continue;
      if (rule.seen++ < (rule.after ?? 0) || rule.failed >= (rule.times ?? Infinity) || !this.#random.chance(rule.probability ?? 1))
        continue;
      rule.failed++;
      throw ioError(this.name, operation, offset, length, rule.errno ?? 'EIO');
    }
  }
}

function isCrash(error: unknown): boolean {
  return error instanceof IoError && error.code === 'DEVICE_CRASHED';
}
