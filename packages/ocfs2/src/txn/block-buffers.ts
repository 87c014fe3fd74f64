/**
 * Memory for new versions of blocks. Every change of a block copies it (op.ts), and a memory allocation of its own costs several
 * times the copy; so versions are cut from slabs of a few blocks.
 *
 * A slab lives as long as any version in it does. It is small, so that a version which stays in the cache keeps at most
 * `SLAB_BLOCKS - 1` dead neighbours with it.
 */
const SLAB_BLOCKS = 4;

export class BlockBuffers {
  #slab: ArrayBuffer;
  #used = 0;

  constructor(private readonly blockSize: number) {
    this.#slab = new ArrayBuffer(SLAB_BLOCKS * blockSize);
  }

  /** A copy of one block's bytes. */
  copy(bytes: Uint8Array): Uint8Array {
    if (this.#used === SLAB_BLOCKS) {
      this.#slab = new ArrayBuffer(SLAB_BLOCKS * this.blockSize);
      this.#used = 0;
    }
    const copy = new Uint8Array(this.#slab, this.#used++ * this.blockSize, this.blockSize);
    copy.set(bytes);
    return copy;
  }
}
