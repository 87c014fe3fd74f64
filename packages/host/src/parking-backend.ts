/**
 * A disk whose guest moves between hosts: while it is parked nothing is written through it, and who wants to write waits, unanswered, as the guest's
 * other side may still write. Reads go on: they are coherent with the other host's writes by the cluster's locks, and QEMU looks at a disk before it
 * activates it (its first sector, for the geometry).
 *
 * Why nothing is written once `park` has resolved. New requests wait from its call on, mappings for writing are refused; what had begun before is waited
 * for, and with it the last mapping that could be handed out; then the recall ends what workers do by any mapping handed out before it.
 */
import { ClusterError, type FileBackend } from '@lunfs/device';

interface Parked {
  readonly over: Promise<void>;
  readonly end: (error?: Error) => void;
}

export class ParkingBackend implements FileBackend {
  #parked: Parked | undefined;
  #busy = 0;
  #idle: (() => void)[] = [];

  /** `parked`: from the beginning. */
  constructor(private readonly inner: FileBackend, private readonly name: string, parked: boolean) {
    if (parked) this.#parked = waiting();
  }

  get size(): number {
    return this.inner.size;
  }

  get readOnly(): boolean {
    return this.inner.readOnly;
  }

  get direct(): FileBackend['direct'] {
    return this.inner.direct;
  }

  /** Resolves when nothing is written any more. Reads are. */
  async park(): Promise<void> {
    this.#parked ??= waiting();
    while (this.#busy > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await this.inner.direct?.gate.recall();
  }

  /** The disk is this host's: what waits goes on. */
  unpark(): void {
    this.#parked?.end();
    this.#parked = undefined;
  }

  /** It will not be: what waits fails, with nobody there to hear of it. */
  abandon(): void {
    this.#parked?.end(new ClusterError('DISK_PARKED', `${this.name} belongs to another host`, {}, undefined, 'ESHUTDOWN'));
  }

  map(offset: number, length: number, write: boolean, limit: number): ReturnType<FileBackend['map']> {
    if (!write) return this.inner.map(offset, length, write, limit);
    // A favour to later requests (nbd's owner.ts): none is due.
    if (this.#parked !== undefined) return Promise.resolve({ epoch: this.inner.direct?.gate.epoch ?? 0, runs: [] });
    return this.#counted(() => this.inner.map(offset, length, write, limit));
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.inner.read(offset, into);
  }

  write(offset: number, from: Uint8Array, fua: boolean): Promise<void> {
    return this.#changing(() => this.inner.write(offset, from, fua));
  }

  flush(): Promise<void> {
    return this.inner.flush();
  }

  trim(offset: number, length: number): Promise<void> {
    return this.#changing(() => this.inner.trim(offset, length));
  }

  writeZeroes(offset: number, length: number, punch: boolean, fua: boolean): Promise<void> {
    return this.#changing(() => this.inner.writeZeroes(offset, length, punch, fua));
  }

  status(...range: Parameters<FileBackend['status']>): ReturnType<FileBackend['status']> {
    return this.inner.status(...range);
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  async #changing(work: () => Promise<void>): Promise<void> {
    while (this.#parked !== undefined) await this.#parked.over;
    await this.#counted(work);
  }

  async #counted<T>(work: () => Promise<T>): Promise<T> {
    this.#busy++;
    try {
      return await work();
    } finally {
      if (--this.#busy === 0) for (const told of this.#idle.splice(0)) told();
    }
  }
}

function waiting(): Parked {
  let end!: (error?: Error) => void;
  const over = new Promise<void>((resolve, reject) => {
    end = (error) => (error === undefined ? resolve() : reject(error));
  });
  over.catch(() => undefined); // told to those who wait
  return { over, end };
}
