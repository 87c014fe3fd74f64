/**
 * One end of the socket pair between lunfsd and a volume process. What is sent in one turn of the event loop leaves in one write, in the
 * order of the calls; what arrives is told frame by frame in the order it was sent.
 */
import type { Duplex } from 'node:stream';
import { type Frame, type FrameFields, FrameParser, HEADER_BYTES, putFrameHeader } from './frames.js';

export class Link {
  #pending: Uint8Array[] = [];
  #scheduled = false;
  #ended = false;
  /** Resolves when the other end has gone. */
  readonly closed: Promise<void>;

  /** `onFrame` may throw: then the link is closed, for what follows could not be trusted. */
  constructor(private readonly socket: Duplex, onFrame: (frame: Frame) => void) {
    const parser = new FrameParser(onFrame);
    socket.on('data', (chunk: Buffer) => {
      try {
        parser.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on('error', () => undefined); // 'close' follows
    socket.on('end', () => socket.destroy());
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#ended = true;
        resolve();
      });
    });
  }

  /** Send a frame; the payload is copied. Nothing happens when the other end has gone. */
  send(kind: number, fields: FrameFields = {}): void {
    if (this.#ended) return;
    const { payload } = fields;
    const bytes = new Uint8Array(HEADER_BYTES + (payload?.length ?? 0));
    putFrameHeader(new DataView(bytes.buffer), 0, kind, fields);
    if (payload !== undefined) bytes.set(payload, HEADER_BYTES);
    this.#pending.push(bytes);
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#flush());
  }

  /** Send a frame whose payload is JSON. */
  sendJson(kind: number, value: unknown, fields: FrameFields = {}): void {
    this.send(kind, { ...fields, payload: Buffer.from(JSON.stringify(value)) });
  }

  /** Resolves when all that was sent has left this process, or the other end has gone. */
  async drained(): Promise<void> {
    this.#flush();
    if (this.#ended) return;
    await new Promise<void>((resolve) => {
      this.socket.write('', () => resolve());
      this.socket.once('close', () => resolve());
    });
  }

  close(): void {
    this.#flush();
    this.socket.end();
  }

  #flush(): void {
    this.#scheduled = false;
    const parts = this.#pending;
    if (parts.length === 0) return;
    this.#pending = [];
    if (!this.#ended) this.socket.write(parts.length === 1 ? parts[0] : Buffer.concat(parts));
  }
}

/** The JSON in a frame's payload. Both ends are of one version: its shape is not doubted. */
export function jsonOf<T>(frame: Frame): T {
  return JSON.parse(Buffer.from(frame.payload).toString()) as T;
}
