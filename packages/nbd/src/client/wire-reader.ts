/** Exact reads from a stream: the client's handshake and replies come in pieces of any size. */
import type { Readable } from 'node:stream';
import { NbdConnectionError } from '../errors.js';

export class WireReader {
  #chunks: Buffer[] = [];
  #have = 0;
  #want = 0;
  #wake: (() => void) | null = null;
  #ended: Error | null = null;
  readonly #onData = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#have += chunk.length;
    if (this.#have >= this.#want) this.#signal();
  };
  readonly #onEnd = (cause?: unknown): void => {
    this.#ended ??= new NbdConnectionError('NBD_CLOSED', 'the NBD server closed the connection', {}, cause instanceof Error ? cause : undefined);
    this.#signal();
  };

  constructor(readonly stream: Readable) {
    stream.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onEnd).on('error', this.#onEnd);
  }

  /** Stop listening (the stream is about to become a TLS session). */
  detach(): void {
    this.stream.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onEnd).off('error', this.#onEnd);
  }

  /** The next `bytes` bytes. One read at a time. Errors: NBD_CLOSED. */
  async read(bytes: number): Promise<Buffer> {
    while (this.#have < bytes) {
      if (this.#ended !== null) throw this.#ended;
      this.#want = bytes;
      await new Promise<void>((resolve) => { this.#wake = resolve; });
    }
    const parts: Buffer[] = [];
    for (let missing = bytes; missing > 0; ) {
      const chunk = this.#chunks[0];
      if (chunk.length <= missing) {
        parts.push(chunk);
        this.#chunks.shift();
        missing -= chunk.length;
      } else {
        parts.push(chunk.subarray(0, missing));
        this.#chunks[0] = chunk.subarray(missing);
        missing = 0;
      }
    }
    this.#have -= bytes;
    return parts.length === 1 ? parts[0] : Buffer.concat(parts, bytes);
  }

  #signal(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
