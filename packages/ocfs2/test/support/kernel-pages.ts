/**
 * A kernel's page cache above a member's mount, as Linux 6.1 fs/fuse and mm/truncate.c do it: a page is locked while it is filled; a
 * mapping makes it dirty without a word; who drops pages goes forward, waits for each page's lock, writes it if it is dirty and takes
 * it away; a truncate keeps write-back from being sent until it has been answered.
 */
import { type HostCaches, type Volume, openWritable, pageRead, pageWrite, readFile, truncateFile, whilePagesMayGo, writeFile } from '../../src/volume/index.js';

export const PAGE = 4096;

interface Page {
  value: number;
  dirty: boolean;
  /** Being filled or written back. */
  busy: Promise<void> | undefined;
}

export class KernelPages implements HostCaches {
  readonly #pages = new Map<number, Page>();
  #nowrite: Promise<unknown> = Promise.resolve();
  #closed: (() => void) | undefined;
  hits = 0;
  writtenBack = 0;

  constructor(private readonly volume: Volume, readonly ino: number) {
    volume.caches = this;
  }

  async open(): Promise<void> {
    this.#closed = await openWritable(this.volume.ctx, this.ino);
  }

  /** The last descriptor and mapping go: what is dirty is written before. */
  async close(): Promise<void> {
    for (const index of [...this.#pages.keys()]) await this.flush(index);
    this.#closed?.();
  }

  async pause(): Promise<void> {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  async drop(ino: number, from: number, to: number): Promise<void> {
    if (ino !== this.ino) return;
    await new Promise((resolve) => setImmediate(resolve)); // another thread
    for (let index = Math.floor(from / PAGE); ; index++) {
      const next = [...this.#pages.keys()].filter((i) => i >= index && i * PAGE < to);
      if (next.length === 0) return;
      index = Math.min(...next);
      await this.#remove(index);
    }
  }

  async mapRead(index: number): Promise<number> {
    return (await this.#fault(index)).value;
  }

  async mapWrite(index: number, change: (value: number) => number): Promise<void> {
    for (;;) {
      const page = await this.#fault(index);
      if (this.#pages.get(index) !== page || page.busy !== undefined) continue; // gone before it was touched
      page.value = change(page.value);
      page.dirty = true;
      return;
    }
  }

  /** read(2) and write(2) of a file without a cache: pages of the range go first, and after a write. */
  async read(index: number): Promise<number> {
    await this.flush(index);
    const content = new Uint8Array(PAGE);
    await pageRead(this.volume.ctx, this.ino, index * PAGE, content);
    return pageValue(content);
  }

  async write(index: number, value: number): Promise<void> {
    await this.#remove(index);
    await writeFile(this.volume.ctx, this.ino, index * PAGE, contentOf(value), { behind: true });
    await this.#remove(index);
  }

  async truncate(size: number): Promise<void> {
    const before = this.#nowrite;
    const mine = before.then(() => whilePagesMayGo(this.volume.ctx, this.ino, size, () => truncateFile(this.volume.ctx, this.ino, size)));
    this.#nowrite = mine;
    await mine;
  }

  /** Write a dirty page back; it stays. */
  async flush(index: number): Promise<void> {
    const page = this.#pages.get(index);
    while (page?.busy !== undefined) await page.busy;
    if (page?.dirty === true) await this.#writeBack(index, page);
  }

  async #writeBack(index: number, page: Page): Promise<void> {
    page.dirty = false;
    page.busy = this.#nowrite.then(() => pageWrite(this.volume.ctx, this.ino, index * PAGE, contentOf(page.value))).finally(() => (page.busy = undefined));
    this.writtenBack++;
    await page.busy;
  }

  async #remove(index: number): Promise<void> {
    const page = this.#pages.get(index);
    if (page === undefined) return;
    do {
      await this.flush(index);
    } while (page.dirty || page.busy !== undefined);
    if (this.#pages.get(index) === page) this.#pages.delete(index);
  }

  async #fault(index: number): Promise<Page> {
    for (;;) {
      const known = this.#pages.get(index);
      if (known?.busy !== undefined) {
        await known.busy;
        continue;
      }
      if (known !== undefined) {
        this.hits++;
        return known;
      }
      const page: Page = { value: 0, dirty: false, busy: undefined };
      this.#pages.set(index, page);
      page.busy = (async () => {
        const content = new Uint8Array(PAGE);
        await pageRead(this.volume.ctx, this.ino, index * PAGE, content);
        await new Promise((resolve) => setImmediate(resolve)); // the answer's way
        page.value = pageValue(content);
      })().finally(() => (page.busy = undefined));
      await page.busy;
    }
  }
}

/** What the disk has, as a node without a cache reads it. */
export async function readValue(volume: Volume, ino: number, index: number): Promise<number> {
  const content = new Uint8Array(PAGE);
  await readFile(volume.ctx, ino, index * PAGE, content);
  return pageValue(content);
}

function contentOf(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array(PAGE / 4).fill(value).buffer);
}

/** Throws for a page that is half of one write and half of another. */
function pageValue(content: Uint8Array): number {
  const words = new Uint32Array(content.buffer);
  if (words.some((word) => word !== words[0])) throw new Error(`a page has both ${words[0]} and ${words.find((word) => word !== words[0])}`);
  return words[0];
}
