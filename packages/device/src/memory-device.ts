import type { BlockDevice } from './block-device.js';
import { IoError } from './errors.js';

const CHUNK = 1 << 20;

/** A sparse device in memory: chunks of 1 MiB appear when first written. For tests and the simulator. */
export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly readOnly: boolean;
  readonly canDiscard = true;
  #chunks = new Map<number, Uint8Array>();

  constructor(options: { size: number; name?: string; logicalBlockSize?: number; readOnly?: boolean }) {
    this.name = options.name ?? 'memory';
    this.logicalBlockSize = options.logicalBlockSize ?? 512;
    this.size = options.size - (options.size % this.logicalBlockSize);
    this.readOnly = options.readOnly ?? false;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.readSync(offset, into);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    this.writeSync(offset, from);
  }

  readSync(offset: number, into: Uint8Array): void {
    checkRange(this, offset, into.length);
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const within = at % CHUNK;
      const n = Math.min(CHUNK - within, into.length - done);
      const chunk = this.#chunks.get((at - within) / CHUNK);
      if (chunk) into.set(chunk.subarray(within, within + n), done);
      else into.fill(0, done, done + n);
      done += n;
    }
  }

  writeSync(offset: number, from: Uint8Array): void {
    checkWritable(this);
    checkRange(this, offset, from.length);
    for (let done = 0; done < from.length; ) {
      const at = offset + done;
      const within = at % CHUNK;
      const n = Math.min(CHUNK - within, from.length - done);
      const index = (at - within) / CHUNK;
      let chunk = this.#chunks.get(index);
      if (!chunk) this.#chunks.set(index, (chunk = new Uint8Array(CHUNK)));
      chunk.set(from.subarray(done, done + n), within);
      done += n;
    }
  }

  async flush(): Promise<void> {}

  async writeZeroes(offset: number, length: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offset, length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const within = at % CHUNK;
      const n = Math.min(CHUNK - within, length - done);
      const index = (at - within) / CHUNK;
      if (n === CHUNK) this.#chunks.delete(index);
      else this.#chunks.get(index)?.fill(0, within, within + n);
      done += n;
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offset, length);
  }

  /** An independent copy of the present content. */
  clone(name = this.name): MemoryDevice {
    const copy = new MemoryDevice({ size: this.size, name, logicalBlockSize: this.logicalBlockSize });
    for (const [index, chunk] of this.#chunks) copy.#chunks.set(index, chunk.slice());
    return copy;
  }

  /** Offsets of the chunks that were ever written, ascending, with their bytes. */
  *contents(): Generator<{ offset: number; bytes: Uint8Array }> {
    for (const index of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      yield { offset: index * CHUNK, bytes: this.#chunks.get(index)! };
    }
  }

  async close(): Promise<void> {}
}

/** Throws DEVICE_UNALIGNED or DEVICE_RANGE unless [offset, offset+length) can be asked of the device. */
export function checkRange(device: BlockDevice, offset: number, length: number): void {
  const unit = device.logicalBlockSize;
  if (offset % unit !== 0 || length % unit !== 0) {
    throw new IoError('DEVICE_UNALIGNED', `${device.name}: request at byte ${offset} of ${length} bytes is not in whole blocks of ${unit}`, { offset, length }, undefined, 'EINVAL');
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > device.size) {
    throw new IoError('DEVICE_RANGE', `${device.name}: request at byte ${offset} of ${length} bytes is outside the device (${device.size} bytes)`, { offset, length }, undefined, 'EINVAL');
  }
}

export function checkWritable(device: BlockDevice): void {
  if (device.readOnly) throw new IoError('DEVICE_READ_ONLY', `${device.name} was opened read-only`, {}, undefined, 'EROFS');
}
