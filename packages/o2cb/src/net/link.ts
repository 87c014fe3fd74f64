/**
 * One connection to a peer: handshake first, then frames, keepalives when nothing comes, and idleness noticed
 * (cluster-protocols.md 4.2, 4.3, 4.6; Linux 6.1 fs/ocfs2/cluster/tcp.c:o2net_advance_rx, o2net_sc_reset_idle_timer).
 *
 * - Nothing but our handshake is sent before the peer's has been found good.
 * - Whole frames are activity; bytes alone are not.
 * - After `keepaliveMs` without one the peer is asked once; after `idleMs` the owner is told, each time anew. The connection stays.
 * - Once `close` was called nothing is sent and the owner hears nothing more, not even of frames that had been received.
 */
import { LunfsError } from '@lunfs/device';
import type { Timeouts } from '../config/index.js';
import type { Scheduler } from '../ports.js';
import { ownHandshake } from './agreement.js';
import { encodeFrame, encodeHandshake, type Frame, type Handshake, Magic, StreamDecoder } from './frame.js';
import type { Socket, SocketEvents } from './transport.js';

/** What its owner, the peer, is told. */
export interface LinkOwner {
  /** Bytes have come in; before they are looked at. It may close the link. */
  arriving(): void;
  handshake(link: Link, handshake: Handshake): void;
  /** A message or a status. May throw LunfsError when it can't be what it should be. */
  frame(link: Link, frame: Frame): void;
  /** Any whole frame was received; before it is looked at. */
  active(link: Link): void;
  /** Nothing was received for `idle` milliseconds. */
  idle(link: Link, idle: number): void;
  /** The connection has ended, or must not be read on. `violation` when the peer broke the protocol. */
  ended(link: Link, reason: string, violation: boolean): void;
}

export class Link implements SocketEvents {
  readonly #owner: LinkOwner;
  readonly #times: Timeouts;
  readonly #scheduler: Scheduler;
  readonly #decoder = new StreamDecoder();
  #socket: Socket | undefined;
  #closed = false;
  #cancelTimer: (() => void) | undefined;
  #asked = false;
  /** When the idle timeout began to count: at the last frame or the last idleness. */
  #quietSince = 0;
  /** When a frame was last received, and when anything was last sent; by the scheduler's clock. */
  lastReceived: number;
  lastSent: number;

  constructor(owner: LinkOwner, times: Timeouts, scheduler: Scheduler) {
    this.#owner = owner;
    this.#times = times;
    this.#scheduler = scheduler;
    this.lastReceived = this.lastSent = scheduler.now();
  }

  /** Gives the link its socket. `accepted`: it stands already. */
  attach(socket: Socket, accepted: boolean): void {
    this.#socket = socket;
    if (accepted) this.connected();
  }

  connected(): void {
    if (!this.#closed) this.#write(encodeHandshake(ownHandshake(this.#times)));
  }

  received(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#owner.arriving();
    try {
      this.#decoder.push(bytes);
      for (let next = this.#decoder.next(); next && !this.#closed; next = this.#decoder.next()) this.#take(next);
    } catch (error) {
      if (!(error instanceof LunfsError && error.kind === 'corruption')) throw error;
      if (!this.#closed) this.#owner.ended(this, error.message, true);
    }
  }

  closed(reason: string): void {
    if (!this.#closed) this.#owner.ended(this, reason, false);
  }

  /** The handshake was good: from now on quiet is watched. */
  watch(): void {
    this.#quiet();
  }

  send(frame: Pick<Frame, 'magic'> & Partial<Frame>): void {
    if (!this.#closed) this.#write(encodeFrame(frame));
  }

  /** Ends the connection; the owner hears no more of it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelTimer?.();
    this.#socket?.close();
  }

  #write(bytes: Uint8Array): void {
    this.lastSent = this.#scheduler.now();
    this.#socket?.send(bytes);
  }

  #take(next: Handshake | Frame): void {
    if (!('magic' in next)) return this.#owner.handshake(this, next);
    this.lastReceived = this.#scheduler.now();
    this.#quietSince = this.lastReceived;
    if (this.#asked) this.#quiet();
    this.#owner.active(this);
    if (next.magic === Magic.KEEPALIVE_REQUEST) this.send({ magic: Magic.KEEPALIVE_RESPONSE });
    else if (next.magic !== Magic.KEEPALIVE_RESPONSE) this.#owner.frame(this, next);
  }

  #quiet(): void {
    this.#quietSince = this.#scheduler.now();
    this.#asked = false;
    this.#cancelTimer?.();
    this.#wait();
  }

  /** One timer for both times. A frame mostly moves only what it will find: setting it anew for each would cost more than the frame. */
  #wait(): void {
    const { keepaliveMs, idleMs } = this.#times;
    const due = this.#quietSince + (this.#asked ? idleMs : keepaliveMs);
    this.#cancelTimer = this.#scheduler.after(Math.max(due - this.#scheduler.now(), 0), () => {
      const quiet = this.#scheduler.now() - this.#quietSince;
      if (this.#asked && quiet >= idleMs) {
        this.#owner.idle(this, this.#scheduler.now() - this.lastReceived);
        if (!this.#closed) this.#quiet();
        return;
      }
      if (!this.#asked && quiet >= keepaliveMs) {
        this.#asked = true;
        this.send({ magic: Magic.KEEPALIVE_REQUEST });
      }
      this.#wait();
    });
  }
}
