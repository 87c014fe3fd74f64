/**
 * What the threads of a verification share beside their tables: whose turn it is, how much is done, and whether they got in each
 * other's way.
 *
 * Work is handed out in parts, in the order of the disk, to whoever asks next; so no thread waits for another. What a thread finds
 * must not depend on who was first. Where it would (two owners of one cluster, two parents of one directory) the thread only says
 * that there is a contest, and the volume is verified again by one thread, whose order is that of the disk.
 */

/** A pass whose work is shared: the inodes, the directories. */
export type Pass = 0 | 1;
export const INODES: Pass = 0;
export const DIRECTORIES: Pass = 1;

/** Of each pass: the next part, and items done. Then the flag. */
const NEXT = 0, DONE = 2, CONTESTED = 4, LENGTH = 5;

export class Turns {
  readonly memory: SharedArrayBuffer;
  /** No other thread is at work. */
  alone: boolean;
  readonly #i32: Int32Array;

  /** `memory`: of the thread that began. */
  constructor(memory?: SharedArrayBuffer) {
    this.alone = memory === undefined;
    memory ??= new SharedArrayBuffer(LENGTH * 4);
    this.memory = memory;
    this.#i32 = new Int32Array(memory);
  }

  /** Numbers of the parts that are this thread's, as it comes to them, below `parts`. */
  *parts(pass: Pass, parts: number): Generator<number> {
    for (let part = Atomics.add(this.#i32, NEXT + pass, 1); part < parts; part = Atomics.add(this.#i32, NEXT + pass, 1)) yield part;
  }

  /** Items done by this thread; returns those of all. */
  done(pass: Pass, items: number): number {
    return Atomics.add(this.#i32, DONE + pass, items) + items;
  }

  /** Something is claimed twice: which claim came first nobody can tell. */
  contest(): void {
    Atomics.store(this.#i32, CONTESTED, 1);
  }

  get contested(): boolean {
    return Atomics.load(this.#i32, CONTESTED) !== 0;
  }
}
