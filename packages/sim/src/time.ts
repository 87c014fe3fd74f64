/**
 * Virtual time. All that happens in a simulation is an event of this one queue, or a continuation of a promise that an event settled:
 * the next event comes when no continuation is left, so the order of everything follows from the seed.
 */
import type { Scheduler } from '@lunfs/o2cb';
import { settled } from './clock.js';

interface Event {
  readonly at: number;
  readonly order: number;
  fn: (() => void) | undefined;
}

/** Wall-clock time at which a simulation begins: seconds since 1970. */
const BEGIN = 1_700_000_000;

/** Times are multiples of this, milliseconds: sums and differences of them are exact, so who waits for a moment wakes at it and not just before. */
const TICK = 1 / 1024;

/** Milliseconds from the simulation's begin. What is due at one time happens in the order in which it was asked for. */
export class VirtualTime implements Scheduler {
  /** Events that have happened. */
  events = 0;
  #now = 0;
  #order = 0;
  /** A binary heap, the earliest event first. */
  readonly #heap: Event[] = [];

  now(): number {
    return this.#now;
  }

  /** Milliseconds since 1970. */
  wall(): number {
    return BEGIN * 1000 + this.#now;
  }

  /** What inodes are stamped with. */
  stamp(): { sec: number; nsec: number } {
    const ms = this.wall();
    const sec = Math.floor(ms / 1000);
    return { sec, nsec: Math.floor((ms - sec * 1000) * 1e6) };
  }

  after(ms: number, fn: () => void): () => void {
    const event: Event = { at: this.#now + Math.ceil(Math.max(0, ms) / TICK) * TICK, order: this.#order++, fn };
    this.#push(event);
    return () => {
      event.fn = undefined;
    };
  }

  /** Resolves after `ms` milliseconds. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  /** The next event with all that follows from it at once. False: there is none. Rejects with what it throws. */
  async step(): Promise<boolean> {
    for (;;) {
      if (this.#heap.length === 0) return false;
      const { at, fn } = this.#pop();
      if (fn === undefined) continue;
      this.#now = at;
      this.events++;
      fn();
      await settled();
      return true;
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    for (let up = (i - 1) >> 1; i > 0 && before(event, heap[up]); i = up, up = (i - 1) >> 1) heap[i] = heap[up];
    heap[i] = event;
  }

  #pop(): Event {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let least = 2 * i + 1;
      if (least >= heap.length) break;
      if (least + 1 < heap.length && before(heap[least + 1], heap[least])) least++;
      if (!before(heap[least], last)) break;
      heap[i] = heap[least];
      i = least;
    }
    heap[i] = last;
    return top;
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
