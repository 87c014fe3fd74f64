/**
 * The transmission phase of one connection: bytes in, requests checked and served, replies out. There is one
 * implementation; the data worker runs it with a direct path to the device, the main thread (TLS, backends without a
 * descriptor) without one. It knows sockets only as "put the next bytes at `window()`, then say `received(n)`".
 *
 * Invariants
 * - Nothing reaches a backend or the device before `validate` has passed it.
 * - A request owns one slot from its header to the last byte of its reply. No slot free: `blocked`, and the driver stops
 *   reading until `resume` is called; what is received stays where it is.
 * - Direct I/O happens between gate.enter (inside `decide`) and gate.leave, which is called in every outcome.
 * - After `stop()` (or an end by the peer) nothing new is begun; `ended` is called once, when no slot is busy any more.
 * - Nothing here waits: a request that needs the owner is parked in its slot and others are served.
 */
import * as fs from 'node:fs';
import { type DirectMap, type Gate, monotonicMs } from '@lunfs/device';
import { Command, CommandFlag, NBD_REQUEST_MAGIC, Request } from '../protocol.js';
import { CLOSE, validate, wireOffset, type Agreed } from '../request.js';
import { OWNER, decide } from './decide.js';
import type { OwnerReply, OwnerRequest } from './owner.js';
import { transferErrno, type Replies } from './replies.js';
import { RECEIVE_BYTES, type Slot, type Slots } from './slots.js';

/** What a data worker needs to reach the device itself. */
export interface DirectPath {
  readonly fd: number;
  readonly alignment: number;
  readonly gate: Gate;
  /** A mapping that was given for reading must not be written through; one for writing may be read. */
  readonly readable: DirectMap;
  readonly writable: DirectMap;
}

export interface TransmissionPorts {
  readonly agreed: Agreed;
  readonly slots: Slots;
  readonly replies: Replies;
  readonly direct: DirectPath | null;
  /** Hand a request to the owner; `ownerDone` brings its reply. */
  owner(request: OwnerRequest): void;
  /** Slots are free again: read on. */
  resume(): void;
  /** The connection is over and nothing is in flight. `violation`: what the peer did wrong, if it did. */
  ended(violation: string | null): void;
}

const HEADER = 0;
const WAIT_SLOT = 1;
const PAYLOAD = 2;
const SKIP = 3;
/** Payloads of this size are received straight into their slot; smaller ones come along in the receive buffer. */
const STRAIGHT = 16 * 1024;
/** Compact the receive buffer when less than this is left behind what it holds. */
const TAIL = 64 * 1024;
/** A cache of more runs than this is started anew: it would cost more than it saves. */
const MAP_LIMIT = 1 << 15;
/** The id of `base:allocation`, the only context there is. */
export const ALLOCATION_CONTEXT = 1;

export class Transmission {
  /** No slot was free for the request at hand: nothing may be received. */
  blocked = false;
  /** Serve by blocking calls, as long as requests come one at a time and the device alone can serve them. */
  quiet = false;
  /** Requests begun by the last `received`. */
  batch = 0;

  readonly #heap: Buffer;
  #start = 0;
  #end = 0;
  #state = HEADER;
  #slot: Slot | null = null;
  #got = 0;
  #over = false;
  #reported = false;
  #violation: string | null = null;
  // The header at hand, until it has a slot.
  #command = 0;
  #flags = 0;
  #offset = 0;
  #length = 0;
  #error = 0;
  #cookieHigh = 0;
  #cookieLow = 0;

  constructor(readonly ports: TransmissionPorts) {
    this.#heap = ports.slots.heap;
    for (const slot of ports.slots.all) slot.onIo = (error, bytes) => this.#ioDone(slot, error, bytes);
  }

  /** True once the peer or we have ended it: received bytes are of no interest any more. */
  get over(): boolean {
    return this.#over;
  }

  /** Nothing received is waiting to be understood. */
  get atRest(): boolean {
    return this.#state === HEADER && this.#start === this.#end;
  }

  /** Where the next bytes belong: [windowStart, windowStart + windowLength) of the memory. */
  get windowStart(): number {
    if (this.#straight()) return this.#slot!.data + this.#got;
    if (this.#start === this.#end) this.#start = this.#end = 0;
    if (RECEIVE_BYTES - this.#end < TAIL && this.#start > 0) {
      this.#heap.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    return this.#end;
  }

  get windowLength(): number {
    return this.#straight() ? this.#slot!.length - this.#got : RECEIVE_BYTES - this.#end;
  }

  /** Bytes that fit at the window and behind it now; never less later on, as long as nothing is received. */
  get room(): number {
    return RECEIVE_BYTES - (this.#end - this.#start);
  }

  /** `bytes`, at most `room`, have been put elsewhere in the memory. */
  receivedAt(from: number, bytes: number): void {
    let begun = 0;
    for (let done = 0; done < bytes && !this.#over; ) {
      const to = this.windowStart;
      const part = Math.min(this.windowLength, bytes - done);
      this.#heap.copyWithin(to, from + done, from + done + part);
      this.received(part);
      begun += this.batch;
      done += part;
    }
    this.batch = begun;
  }

  /** `bytes` have been put at the window. */
  received(bytes: number): void {
    if (this.#over) return;
    this.batch = 0;
    if (this.#straight()) this.#got += bytes;
    else this.#end += bytes;
    this.#parse();
  }

  /** Begin nothing more; `ended` follows when all that is in flight has been answered. */
  stop(): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#slot !== null) this.ports.slots.release(this.#slot);
    this.#slot = null;
    this.idle();
  }

  /** To be called when replies have left: goes on with what waited for a slot, or ends. */
  idle(): void {
    if (this.blocked && !this.#over) {
      this.blocked = false;
      this.#parse();
      if (!this.blocked && !this.#over) this.ports.resume();
    }
    if (this.#over && !this.#reported && this.ports.slots.busy === 0) {
      this.#reported = true;
      this.ports.ended(this.#violation);
    }
  }

  /** The owner has answered. */
  ownerDone(reply: OwnerReply): void {
    const slot = this.ports.slots.all[reply.slot];
    const { replies } = this.ports;
    if (reply.runs !== undefined) this.#learn(reply);
    if (reply.error !== 0 || slot.command === Command.WRITE) replies.status(slot, reply.error, reply.message);
    else if (slot.command === Command.BLOCK_STATUS) replies.extents(slot, ALLOCATION_CONTEXT, reply.pieces ?? [slot.length, 0]);
    else if (slot.command !== Command.READ) replies.status(slot, 0);
    else if (reply.pieces !== undefined) replies.sparse(slot, reply.pieces);
    else replies.data(slot);
  }

  #straight(): boolean {
    return this.#state === PAYLOAD && this.#slot !== null && this.#start === this.#end && this.#slot.length - this.#got >= STRAIGHT;
  }

  #parse(): void {
    while (!this.#over) {
      if (this.#state === HEADER) {
        if (this.#end - this.#start < Request.BYTES) return;
        if (!this.#header()) {
          this.stop();
          return;
        }
        this.#state = WAIT_SLOT;
      }
      if (this.#state === WAIT_SLOT) {
        const transfer = this.#error === 0 && (this.#command === Command.READ || this.#command === Command.WRITE);
        const slot = this.ports.slots.take(transfer ? this.#length : 0);
        if (slot === undefined) {
          this.blocked = true;
          return;
        }
        this.#fill(slot);
        this.#state = this.#command !== Command.WRITE ? HEADER : this.#error === 0 ? PAYLOAD : SKIP;
        if (this.#state === HEADER) {
          this.#begin(slot);
          continue;
        }
      }
      const slot = this.#slot!;
      const bytes = Math.min(slot.length - this.#got, this.#end - this.#start);
      if (this.#state === PAYLOAD) this.#heap.copyWithin(slot.data + this.#got, this.#start, this.#start + bytes);
      this.#start += bytes;
      this.#got += bytes;
      if (this.#got < slot.length) return;
      this.#state = HEADER;
      this.#begin(slot);
    }
  }

  /** Takes the header at the front of the receive buffer apart. False: the connection is over. */
  #header(): boolean {
    const heap = this.#heap;
    const at = this.#start;
    if (heap.readUInt32BE(at + Request.MAGIC) !== NBD_REQUEST_MAGIC) {
      this.#violation = 'a request began with a wrong magic number';
      return false;
    }
    this.#flags = heap.readUInt16BE(at + Request.FLAGS);
    this.#command = heap.readUInt16BE(at + Request.TYPE);
    this.#cookieHigh = heap.readUInt32BE(at + Request.COOKIE);
    this.#cookieLow = heap.readUInt32BE(at + Request.COOKIE + 4);
    this.#offset = wireOffset(heap.readUInt32BE(at + Request.OFFSET), heap.readUInt32BE(at + Request.OFFSET + 4));
    this.#length = heap.readUInt32BE(at + Request.LENGTH);
    this.#start += Request.BYTES;
    this.#error = validate(this.ports.agreed, this.#command, this.#flags, this.#offset, this.#length);
    if (this.#error === CLOSE) this.#violation = `a WRITE of ${this.#length} bytes is longer than what INFO_BLOCK_SIZE allows`;
    return this.#error !== CLOSE && this.#command !== Command.DISC;
  }

  #fill(slot: Slot): void {
    slot.command = this.#command;
    slot.flags = this.#flags;
    slot.offset = this.#offset;
    slot.length = this.#length;
    slot.error = this.#error;
    slot.cookieHigh = this.#cookieHigh;
    slot.cookieLow = this.#cookieLow;
    this.#slot = slot;
    this.#got = 0;
  }

  /** The request is complete: serve it now, by the device or by the owner. */
  #begin(slot: Slot): void {
    this.#slot = null;
    this.batch++;
    if (this.quiet && this.#end > this.#start) this.quiet = false;
    const { command } = slot;
    const transfer = command === Command.READ || command === Command.WRITE;
    if (slot.error !== 0 || (slot.length === 0 && command !== Command.FLUSH)) {
      if (slot.error === 0 && command === Command.READ && !this.ports.replies.structured) this.ports.replies.data(slot);
      else this.ports.replies.status(slot, slot.error);
      return;
    }
    const { direct } = this.ports;
    if (!transfer || direct === null) {
      this.#toOwner(slot, direct !== null && command === Command.CACHE);
      return;
    }
    const write = command === Command.WRITE;
    const device = decide(slot.offset, slot.length, write, write ? direct.writable : direct.readable, direct.gate, direct.alignment, monotonicMs());
    if (device < 0) this.#toOwner(slot, device === OWNER);
    else if (this.quiet) this.#transferNow(slot, direct, device);
    else if (write) fs.write(direct.fd, this.#heap, slot.data, slot.length, device, slot.onIo);
    else fs.read(direct.fd, this.#heap, slot.data, slot.length, device, slot.onIo);
  }

  #transferNow(slot: Slot, direct: DirectPath, device: number): void {
    let bytes = 0;
    let failure: NodeJS.ErrnoException | null = null;
    try {
      bytes = slot.command === Command.WRITE
        ? fs.writeSync(direct.fd, this.#heap, slot.data, slot.length, device)
        : fs.readSync(direct.fd, this.#heap, slot.data, slot.length, device);
    } catch (error) {
      failure = error as NodeJS.ErrnoException;
    }
    this.#ioDone(slot, failure, bytes);
  }

  #ioDone(slot: Slot, error: NodeJS.ErrnoException | null, bytes: number): void {
    this.ports.direct!.gate.leave();
    // A short transfer inside a mapping means that the device ends there: an error, not a reason to try again.
    if (error !== null || bytes !== slot.length) this.ports.replies.status(slot, transferErrno(error), error?.message ?? 'short transfer');
    else if (slot.command === Command.READ) this.ports.replies.data(slot);
    else if ((slot.flags & CommandFlag.FUA) !== 0) this.#ask(slot, Command.FLUSH, false);
    else this.ports.replies.status(slot, 0);
  }

  #toOwner(slot: Slot, wantRuns: boolean): void {
    this.#ask(slot, slot.command, wantRuns);
  }

  /** `command` differs from the slot's where a part of it is done already (FUA after a direct write: FLUSH). */
  #ask(slot: Slot, command: number, wantRuns: boolean): void {
    this.quiet = false;
    const sparse = command === Command.READ && this.ports.replies.structured && (slot.flags & CommandFlag.DF) === 0;
    this.ports.owner({ slot: slot.index, command, flags: slot.flags, offset: slot.offset, length: slot.length, at: slot.data, sparse, wantRuns });
  }

  #learn(reply: OwnerReply): void {
    const { direct } = this.ports;
    const { runs, epoch } = reply;
    if (direct === null || runs === undefined || epoch === undefined || epoch !== direct.gate.epoch) return;
    for (const map of [direct.readable, direct.writable]) {
      if (map === direct.writable && reply.writable !== true) continue;
      if (map.epoch !== epoch || map.count > MAP_LIMIT) map.reset(epoch);
      for (let i = 0; i < runs.length; i += 3) {
        // Adding moves all that lies behind: not for what is known.
        if (map.find(runs[i]) !== runs[i + 2] || map.available(runs[i]) < runs[i + 1]) map.add(runs[i], runs[i + 1], runs[i + 2]);
      }
    }
  }
}
