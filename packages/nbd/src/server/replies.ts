/**
 * Replies on their way out. They gather while a batch of requests is served and leave in one system call; what the
 * socket does not take at once goes through the stream, and everything after it too until the stream has drained, so
 * that bytes never change order. A slot is free again when the last byte of its reply has been handed to the kernel
 * (or when the peer is gone).
 */
import type { Writable } from 'node:stream';
import { Chunk, NbdErrno, OFFSET_DATA_BYTES, OFFSET_HOLE_BYTES, ReplyFlag, ReplyType, SimpleReply, NBD_SIMPLE_REPLY_MAGIC, NBD_STRUCTURED_REPLY_MAGIC, Command } from '../protocol.js';
import { writeNow } from './io.js';
import type { Slot } from './slots.js';

/** More than this in one writev is EINVAL (IOV_MAX). */
const MAX_VECTOR = 512;
const HEADER_ROOM = 4096;
const ERROR_FIXED = 6;

export class Replies {
  /** Replies leave at once, by blocking writes. */
  immediate = false;
  #views: Uint8Array[] = [];
  /** Beside each view: the slot that is free once it has been sent, or null. */
  #owners: (Slot | null)[] = [];
  // The pair that is filled and the pair that is sent change places: no array is made per batch.
  #spareViews: Uint8Array[] = [];
  #spareOwners: (Slot | null)[] = [];
  #scheduled = false;
  #streaming = 0;
  #broken = false;
  readonly #flush = (): void => this.flush();

  /** `fd` < 0: everything goes through the stream. `gone` is called once, when the peer takes no more bytes. */
  constructor(readonly stream: Writable, readonly fd: number, readonly structured: boolean, readonly sent: (slot: Slot) => void, readonly flushed: () => void, readonly gone: (error: unknown) => void) {}

  /** The success of a command without payload, or its error. */
  status(slot: Slot, error: number, message = ''): void {
    const { heap } = slot;
    if (this.structured && (error !== 0 || slot.command === Command.READ)) {
      const text = error === 0 ? 0 : heap.write(message, slot.base + Chunk.BYTES + ERROR_FIXED, HEADER_ROOM - Chunk.BYTES - ERROR_FIXED);
      const payload = error === 0 ? 0 : ERROR_FIXED + text;
      this.#chunkHeader(slot, slot.base, ReplyFlag.DONE, error === 0 ? ReplyType.NONE : ReplyType.ERROR, payload);
      if (error !== 0) {
        heap.writeUInt32BE(error, slot.base + Chunk.BYTES);
        heap.writeUInt16BE(text, slot.base + Chunk.BYTES + 4);
      }
      this.#push(slot.view(slot.base, Chunk.BYTES + payload), slot);
      return;
    }
    this.#simpleHeader(slot, slot.base, error);
    this.#push(slot.view(slot.base, SimpleReply.BYTES), slot);
  }

  /** The whole payload of a READ. */
  data(slot: Slot): void {
    if (!this.structured) {
      this.#simpleHeader(slot, slot.data - SimpleReply.BYTES, 0);
      this.#push(slot.view(slot.data - SimpleReply.BYTES, SimpleReply.BYTES + slot.length), slot);
      return;
    }
    const at = slot.data - OFFSET_DATA_BYTES;
    this.#chunkHeader(slot, at, ReplyFlag.DONE, ReplyType.OFFSET_DATA, 8 + slot.length);
    putOffset(slot.heap, slot.offset, at + Chunk.BYTES);
    this.#push(slot.view(at, OFFSET_DATA_BYTES + slot.length), slot);
  }

  /** A READ whose payload is data and zeros in turn (OwnerReply.pieces); structured replies only. */
  sparse(slot: Slot, pieces: number[]): void {
    let header = slot.base;
    let from = 0;
    for (let i = 0; i < pieces.length; i++) {
      const length = pieces[i];
      if (length === 0) continue;
      const last = from + length === slot.length;
      const flags = last ? ReplyFlag.DONE : 0;
      const zero = i % 2 === 1;
      this.#chunkHeader(slot, header, flags, zero ? ReplyType.OFFSET_HOLE : ReplyType.OFFSET_DATA, zero ? 12 : 8 + length);
      putOffset(slot.heap, slot.offset + from, header + Chunk.BYTES);
      if (zero) slot.heap.writeUInt32BE(length, header + OFFSET_DATA_BYTES);
      const bytes = zero ? OFFSET_HOLE_BYTES : OFFSET_DATA_BYTES;
      this.#push(slot.heap.subarray(header, header + bytes), zero && last ? slot : null);
      if (!zero) this.#push(slot.heap.subarray(slot.data + from, slot.data + from + length), last ? slot : null);
      header += bytes;
      from += length;
    }
  }

  /** BLOCK_STATUS of one context; `pieces` are pairs length, state. */
  extents(slot: Slot, context: number, pieces: number[]): void {
    const at = slot.data;
    this.#chunkHeader(slot, at, ReplyFlag.DONE, ReplyType.BLOCK_STATUS, 4 + 4 * pieces.length);
    slot.heap.writeUInt32BE(context, at + Chunk.BYTES);
    for (let i = 0; i < pieces.length; i++) slot.heap.writeUInt32BE(pieces[i], at + Chunk.BYTES + 4 + 4 * i);
    this.#push(slot.view(at, Chunk.BYTES + 4 + 4 * pieces.length), slot);
  }

  /** Send what has gathered. Slots of replies that left are released before it returns. */
  flush(): void {
    this.#scheduled = false;
    const views = this.#views;
    const owners = this.#owners;
    if (views.length === 0) return;
    this.#views = this.#spareViews;
    this.#owners = this.#spareOwners;
    let next = 0;
    let rest = 0;
    if (this.fd >= 0 && this.#streaming === 0 && !this.#broken) {
      try {
        while (next < views.length) {
          const group = views.length - next <= MAX_VECTOR && next === 0 ? views : views.slice(next, next + MAX_VECTOR);
          let bytes = writeNow(this.fd, group);
          const stop = next + group.length;
          while (next < stop && bytes >= views[next].length) {
            bytes -= views[next].length;
            this.#done(owners[next++]);
          }
          if (next < stop) {
            rest = bytes;
            if (!this.immediate || bytes === 0) break;
            views[next] = views[next].subarray(rest);
            rest = 0;
          }
        }
      } catch (error) {
        this.#break(error);
      }
    }
    if (next < views.length) this.#stream(views, owners, next, rest);
    views.length = 0;
    owners.length = 0;
    this.#spareViews = views;
    this.#spareOwners = owners;
    this.flushed();
  }

  /** Send nothing more: the peer shall see the connection end, and no answer. */
  mute(): void {
    this.#broken = true;
  }

  #stream(views: Uint8Array[], owners: (Slot | null)[], first: number, skip: number): void {
    this.stream.cork();
    for (let i = first; i < views.length; i++) {
      const owner = owners[i];
      if (this.#broken) {
        this.#done(owner);
        continue;
      }
      this.#streaming++;
      this.stream.write(i === first && skip > 0 ? views[i].subarray(skip) : views[i], (error) => {
        this.#streaming--;
        if (error) this.#break(error);
        this.#done(owner);
        this.flushed();
      });
    }
    this.stream.uncork();
  }

  #done(owner: Slot | null): void {
    if (owner !== null) this.sent(owner);
  }

  #break(error: unknown): void {
    if (this.#broken) return;
    this.#broken = true;
    this.gone(error);
  }

  #push(view: Uint8Array, owner: Slot | null): void {
    this.#views.push(view);
    this.#owners.push(owner);
    if (this.#scheduled || this.immediate) return;
    this.#scheduled = true;
    setImmediate(this.#flush);
  }

  #simpleHeader(slot: Slot, at: number, error: number): void {
    const { heap } = slot;
    heap.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC, at + SimpleReply.MAGIC);
    heap.writeUInt32BE(error, at + SimpleReply.ERROR);
    heap.writeUInt32BE(slot.cookieHigh, at + SimpleReply.COOKIE);
    heap.writeUInt32BE(slot.cookieLow, at + SimpleReply.COOKIE + 4);
  }

  #chunkHeader(slot: Slot, at: number, flags: number, type: number, payload: number): void {
    const { heap } = slot;
    heap.writeUInt32BE(NBD_STRUCTURED_REPLY_MAGIC, at + Chunk.MAGIC);
    heap.writeUInt16BE(flags, at + Chunk.FLAGS);
    heap.writeUInt16BE(type, at + Chunk.TYPE);
    heap.writeUInt32BE(slot.cookieHigh, at + Chunk.COOKIE);
    heap.writeUInt32BE(slot.cookieLow, at + Chunk.COOKIE + 4);
    heap.writeUInt32BE(payload, at + Chunk.LENGTH);
  }
}

function putOffset(heap: Buffer, offset: number, at: number): void {
  heap.writeUInt32BE(Math.floor(offset / 0x1_0000_0000), at);
  heap.writeUInt32BE(offset % 0x1_0000_0000, at + 4);
}

/** What a failed transfer on the device's descriptor is on the wire. */
export function transferErrno(error: NodeJS.ErrnoException | null): number {
  return error?.code === 'ENOSPC' ? NbdErrno.ENOSPC : NbdErrno.EIO;
}
