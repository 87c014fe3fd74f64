/**
 * A lane: the shared memory between one worker, which reads requests, and the main thread, which answers what the worker
 * cannot.
 *
 * Requests are read into slots. A slot's memory is laid out so that the payload of a WRITE starts on a page (40 + 40 bytes of
 * headers end there) and the 16-byte header of a READ's reply ends where page-aligned data starts: nothing is copied on either
 * way. A request that is handed over takes its slot along: the ring carries the slot's number and the message's length, and the
 * main thread frees the slot when it has answered. So the worker never waits for the main thread: when no slot is free it makes another
 * segment of them (bounded by what the kernel lets be outstanding). The memory is page aligned (O_DIRECT) and
 * shared; its pages are committed when first touched.
 *
 * One producer (the worker), one consumer (the main thread). The ring cannot overflow: it has more entries than slots may exist.
 */
import { adoptAligned, alignedMemory, InternalError } from '@lunfs/device';
import { MAX_WRITE, PAGE } from '../protocol/constants.js';
import { IN_HEADER, OUT_HEADER, WRITE_IN } from '../protocol/structs.js';

const SLOT_BYTES = PAGE + MAX_WRITE;
const SEGMENT_SLOTS = 16;
/** Where a message starts in its slot, and where page-aligned data and the header in front of it do. */
export const MESSAGE_AT = PAGE - IN_HEADER.size - WRITE_IN.size;
export const DATA_AT = PAGE;
export const REPLY_AT = PAGE - OUT_HEADER.size;
/** What one read of /dev/fuse may return; the kernel refuses less than header + WRITE header + max_write. */
export const MESSAGE_MAX = IN_HEADER.size + WRITE_IN.size + MAX_WRITE;

/** Sixteen slots and their states (0 free, 1 in use). */
export interface Segment {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly states: Int32Array;
}

/** What crosses to the other thread to make the same segment there. */
export interface SegmentMemory {
  readonly memory: ArrayBufferLike;
  readonly states: SharedArrayBuffer;
}

function newSegment(): SegmentMemory {
  return {
    memory: alignedMemory(SLOT_BYTES * SEGMENT_SLOTS, true),
    states: new SharedArrayBuffer(SEGMENT_SLOTS * 4),
  };
}

function openSegment(shared: SegmentMemory): Segment {
  adoptAligned(shared.memory);
  return { bytes: new Uint8Array(shared.memory), view: new DataView(shared.memory), states: new Int32Array(shared.states) };
}

export function slotBase(slot: number): number {
  return (slot % SEGMENT_SLOTS) * SLOT_BYTES;
}

const RING = 1 << 14;
const SEGMENTS_MAX = RING / SEGMENT_SLOTS;
const HEAD = 0; // requests handed over, ever
const MAIL = 1; // messages that the main thread has posted, ever
const RING_AT = 2;
const LANE_BYTES = (RING_AT + 2 * RING) * 4;

/** The worker's end. */
export class LaneProducer {
  readonly #i32: Int32Array;
  readonly #bell: Int32Array;
  readonly #segments: Segment[] = [];
  readonly #announce: (segment: SegmentMemory) => void;
  #mailSeen = 0;

  /** `announce` tells the main thread about a new segment; it arrives before any slot of it does. */
  constructor(lane: SharedArrayBuffer, bell: SharedArrayBuffer, announce: (segment: SegmentMemory) => void) {
    this.#i32 = new Int32Array(lane);
    this.#bell = new Int32Array(bell);
    this.#announce = announce;
  }

  segment(slot: number): Segment {
    return this.#segments[Math.floor(slot / SEGMENT_SLOTS)];
  }

  /** A free slot, now in use. */
  take(): number {
    for (let s = 0; ; s++) {
      if (s === this.#segments.length) this.#grow();
      const { states } = this.#segments[s];
      for (let i = 0; i < SEGMENT_SLOTS; i++) {
        if (Atomics.load(states, i) === 0) {
          Atomics.store(states, i, 1);
          return s * SEGMENT_SLOTS + i;
        }
      }
    }
  }

  /** Hand the message in `slot` to the main thread, with the slot. */
  forward(slot: number, length: number): void {
    const head = Atomics.load(this.#i32, HEAD);
    const at = RING_AT + 2 * (head & (RING - 1));
    this.#i32[at] = slot;
    this.#i32[at + 1] = length;
    Atomics.store(this.#i32, HEAD, (head + 1) | 0);
    Atomics.add(this.#bell, 0, 1);
    Atomics.notify(this.#bell, 0);
  }

  /** True once after the main thread has posted something. */
  hasMail(): boolean {
    const mail = Atomics.load(this.#i32, MAIL);
    if (mail === this.#mailSeen) return false;
    this.#mailSeen = mail;
    return true;
  }

  #grow(): void {
    if (this.#segments.length === SEGMENTS_MAX) throw new InternalError('FUSE_SLOTS', `more than ${RING} requests wait for the main thread`);
    const shared = newSegment();
    this.#segments.push(openSegment(shared));
    this.#announce(shared);
  }
}

/** The main thread's end. */
export class LaneConsumer {
  readonly memory = new SharedArrayBuffer(LANE_BYTES);
  readonly #i32 = new Int32Array(this.memory);
  readonly #segments: Segment[] = [];
  readonly #receive: () => SegmentMemory;
  #tail = 0;
  /** The slot and length of the message that `next` found. */
  slot = 0;
  length = 0;

  /** `receive` fetches the next announced segment, which is there whenever it is called. */
  constructor(receive: () => SegmentMemory) {
    this.#receive = receive;
  }

  segment(slot: number): Segment {
    const index = Math.floor(slot / SEGMENT_SLOTS);
    while (this.#segments.length <= index) this.#segments.push(openSegment(this.#receive()));
    return this.#segments[index];
  }

  /** Take the next request, into `slot` and `length`; false when there is none. */
  next(): boolean {
    if (Atomics.load(this.#i32, HEAD) === this.#tail) return false;
    const at = RING_AT + 2 * (this.#tail & (RING - 1));
    this.slot = this.#i32[at];
    this.length = this.#i32[at + 1];
    this.#tail = (this.#tail + 1) | 0;
    return true;
  }

  free(slot: number): void {
    Atomics.store(this.segment(slot).states, slot % SEGMENT_SLOTS, 0);
  }

  /** Tell the worker that a message was posted; it looks before its next request. */
  mailed(): void {
    Atomics.add(this.#i32, MAIL, 1);
  }
}
