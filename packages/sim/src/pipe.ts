/** The socket pair between lunfsd and a volume process: two streams, each of which delivers what the other was given, in order, a little later. */
import { Duplex } from 'node:stream';
import type { Requester } from './disk.js';
import type { VirtualTime } from './time.js';

class End extends Duplex {
  other!: End;
  #last = 0;

  constructor(private readonly time: VirtualTime, private readonly delay: () => number, private readonly reader: Pick<Requester, 'exec'>) {
    super({ highWaterMark: 1 << 24 });
  }

  override _read(): void {
    // What comes is pushed.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const bytes = Buffer.from(chunk);
    this.#send(() => this.other.push(bytes));
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#send(() => this.other.push(null));
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#send(() => this.other.destroy());
    done(error);
  }

  #send(fn: () => void): void {
    this.#last = Math.max(this.#last, this.time.now() + this.delay());
    this.time.after(this.#last - this.time.now(), () => this.other.reader.exec(() => {
      if (!this.other.destroyed) fn();
    }));
  }
}

/** `a` and `b`: who reads the two ends. */
export function socketPair(time: VirtualTime, delay: () => number, a: Pick<Requester, 'exec'>, b: Pick<Requester, 'exec'>): [Duplex, Duplex] {
  const ends: [End, End] = [new End(time, delay, a), new End(time, delay, b)];
  ends[0].other = ends[1];
  ends[1].other = ends[0];
  return ends;
}
