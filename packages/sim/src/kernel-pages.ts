/**
 * The page cache of a machine's kernel above a member's mount, as Linux 6.1 fs/fuse and mm/truncate.c have it, driven by programs that map files:
 * a page is locked while it is filled or written back; a store makes it dirty without a word; who drops pages goes forward, waits for each page's
 * lock, writes it if it is dirty and takes it away; read(2) and write(2) go past the cache, and write back or drop what it has of their range; a change
 * of size keeps write-back from being sent until it is answered.
 *
 * Programs of one host that store into a page which another one writes by write(2) lose one of the two, with Linux as well: these take turns.
 */
import type { Random } from '@lunfs/device';
import { type HostCaches, type Volume, openWritable, pageRead, pageWrite, truncateFile, whilePagesMayGo, writeFile } from '@lunfs/ocfs2';
import type { Requester } from './disk.js';
import type { VirtualTime } from './time.js';

const PAGE = 4096;
/** What a request or an answer takes between kernel and volume process, at most, milliseconds. */
const WAY_MS = 0.3;
/** The patience of packages/host with a drop. */
const PATIENCE_MS = 5;

/** Pages served from a cache, written back, and taken away because another node wants the file. */
export interface PageCounts {
  hits: number;
  writtenBack: number;
  dropped: number;
}

interface Page {
  readonly bytes: Uint8Array;
  dirty: boolean;
  /** It is being filled or written back. */
  busy: Promise<void> | undefined;
}

/** An open file that a program has mapped. */
export interface Mapping {
  /** Bytes [offset, offset + length), within one page. */
  load(offset: number, length: number): Promise<Uint8Array>;
  /** `bytes`: asked for at the moment of the store, within one page. */
  store(offset: number, bytes: () => Uint8Array): Promise<void>;
  sync(): Promise<void>;
  /** Writes back what is dirty. Once. */
  close(): Promise<void>;
}

export class KernelPages implements HostCaches {
  readonly #files = new Map<number, Map<number, Page>>();
  readonly #noWriteBack = new Map<number, Promise<unknown>>();
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(private readonly who: Requester, private readonly time: VirtualTime, private readonly volume: Volume, private readonly random: Random, private readonly counts: PageCounts) {
    volume.caches = this;
  }

  async open(ino: number, writable: boolean): Promise<Mapping> {
    const done = writable ? await openWritable(this.volume.ctx, ino) : undefined;
    // Without KEEP_CACHE an open drops what is cached.
    await this.#removeAll(ino, 0, Number.POSITIVE_INFINITY);
    return {
      load: async (offset, length) => {
        const { bytes } = await this.#fault(ino, Math.floor(offset / PAGE));
        return bytes.slice(offset % PAGE, (offset % PAGE) + length);
      },
      store: (offset, bytes) => this.#turn(ino, offset, offset + 1, () => this.#store(ino, offset, bytes)),
      sync: () => this.#flushAll(ino, 0, Number.POSITIVE_INFINITY),
      close: async () => {
        await this.#flushAll(ino, 0, Number.POSITIVE_INFINITY);
        done?.();
      },
    };
  }

  /** As read(2) and write(2). */
  async read(ino: number, offset: number, into: Uint8Array): Promise<number> {
    await this.#flushAll(ino, offset, offset + into.length);
    return pageRead(this.volume.ctx, ino, offset, into);
  }

  write(ino: number, offset: number, from: Uint8Array): Promise<void> {
    const end = offset + from.length;
    return this.#turn(ino, offset, end, async () => {
      await this.#removeAll(ino, offset, end);
      await writeFile(this.volume.ctx, ino, offset, from, { behind: true });
      await this.#removeAll(ino, offset, end);
    });
  }

  async resize(ino: number, size: number): Promise<void> {
    const { ctx } = this.volume;
    const mine = (this.#noWriteBack.get(ino) ?? Promise.resolve()).then(() => whilePagesMayGo(ctx, ino, size, () => truncateFile(ctx, ino, size)));
    this.#noWriteBack.set(ino, mine.catch(() => undefined));
    await mine;
  }

  /** What syncfs does before it asks the file system. */
  async sync(): Promise<void> {
    for (const ino of [...this.#files.keys()]) await this.#flushAll(ino, 0, Number.POSITIVE_INFINITY);
  }

  pause(): Promise<void> {
    return this.#after(PATIENCE_MS);
  }

  async drop(ino: number, from: number, to: number): Promise<void> {
    await this.#way();
    this.counts.dropped += await this.#removeAll(ino, from, to);
    await this.#way();
  }

  #pages(ino: number): Map<number, Page> {
    let pages = this.#files.get(ino);
    if (pages === undefined) this.#files.set(ino, (pages = new Map<number, Page>()));
    return pages;
  }

  /** Pages that lie in [from, to), one after the other, each as it is then. */
  async #each(ino: number, from: number, to: number, visit: (index: number) => Promise<void>): Promise<void> {
    const pages = this.#pages(ino);
    for (let at = Math.floor(from / PAGE); ; at++) {
      at = Math.min(...[...pages.keys()].filter((index) => index >= at && index * PAGE < to));
      if (at === Number.POSITIVE_INFINITY) return;
      await visit(at);
    }
  }

  #flushAll(ino: number, from: number, to: number): Promise<void> {
    return this.#each(ino, from, to, (index) => this.#flush(ino, index));
  }

  async #removeAll(ino: number, from: number, to: number): Promise<number> {
    let count = 0;
    await this.#each(ino, from, to, async (index) => {
      const pages = this.#pages(ino);
      const page = pages.get(index);
      if (page === undefined) return;
      do await this.#flush(ino, index);
      while (page.dirty || page.busy !== undefined);
      if (pages.get(index) === page) pages.delete(index);
      count++;
    });
    return count;
  }

  /** Waits until the page is not locked and writes it back if it is dirty; it stays. */
  async #flush(ino: number, index: number): Promise<void> {
    const page = this.#pages(ino).get(index);
    if (page === undefined) return;
    while (page.busy !== undefined) await page.busy;
    if (!page.dirty) return;
    page.dirty = false;
    this.counts.writtenBack++;
    page.busy = this.#writeBack(ino, index, page).finally(() => (page.busy = undefined));
    await page.busy;
  }

  async #writeBack(ino: number, index: number, { bytes }: Page): Promise<void> {
    await this.#noWriteBack.get(ino);
    await this.#way();
    await pageWrite(this.volume.ctx, ino, index * PAGE, bytes.slice());
  }

  async #store(ino: number, offset: number, bytes: () => Uint8Array): Promise<void> {
    const index = Math.floor(offset / PAGE);
    for (;;) {
      const page = await this.#fault(ino, index);
      if (this.#pages(ino).get(index) !== page || page.busy !== undefined) continue; // gone before it was touched
      page.bytes.set(bytes(), offset % PAGE);
      page.dirty = true;
      return;
    }
  }

  async #fault(ino: number, index: number): Promise<Page> {
    const pages = this.#pages(ino);
    for (;;) {
      const known = pages.get(index);
      if (known?.busy !== undefined) {
        await known.busy;
        continue;
      }
      if (known !== undefined) {
        this.counts.hits++;
        return known;
      }
      const page: Page = { bytes: new Uint8Array(PAGE), dirty: false, busy: undefined };
      pages.set(index, page);
      page.busy = this.#fill(ino, index, page).finally(() => (page.busy = undefined));
      await page.busy;
    }
  }

  async #fill(ino: number, index: number, { bytes }: Page): Promise<void> {
    await this.#way();
    await pageRead(this.volume.ctx, ino, index * PAGE, bytes);
    await this.#way();
  }

  /** One at a time for each page of [from, to). */
  async #turn<T>(ino: number, from: number, to: number, work: () => Promise<T>): Promise<T> {
    const keys: string[] = [];
    for (let index = Math.floor(from / PAGE); index * PAGE < to; index++) keys.push(`${ino} ${index}`);
    const before = keys.map((key) => this.#turns.get(key) ?? Promise.resolve());
    const mine = Promise.all(before).then(work);
    const over = mine.catch(() => undefined);
    for (const key of keys) this.#turns.set(key, over);
    return mine;
  }

  #way(): Promise<void> {
    return this.#after(this.random.float() * WAY_MS);
  }

  #after(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.time.after(ms, () => this.who.exec(resolve));
    });
  }
}
