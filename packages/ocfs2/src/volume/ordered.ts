/**
 * Data that belongs to an operation: the transaction commits when it is on the device. The operation announces it, the
 * data is written once the operation has applied (only then it is known where). From then on the file has it among its
 * `dataUnderWay`: its size and extents already tell of it, and the cluster locks may be free.
 */
import type { Op } from '../txn/index.js';

/** Of a file (file-state.ts). */
export interface DataUnderWay {
  /** Data of operations that have applied. Each of these resolves when it is on the device, or will never be. */
  readonly dataUnderWay: Set<Promise<void>>;
}

export class Ordered {
  #resolve: () => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;
  readonly #extra: (() => Promise<void>)[] = [];

  /** In the operation: its transaction waits for `finish`. Forgets what an earlier attempt announced. */
  attach(op: Op, file: DataUnderWay): void {
    this.#extra.length = 0;
    const done = new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The log sees a failure when it commits; until then it is nobody's.
    const ended = done.catch(() => undefined);
    op.ordered(done);
    op.onApply(() => {
      file.dataUnderWay.add(ended);
      void ended.then(() => file.dataUnderWay.delete(ended));
    });
  }

  /** All data there is comes with `finish`. */
  get alone(): boolean {
    return this.#extra.length === 0;
  }

  /** In the operation: data to be written first by `finish`. */
  add(write: () => Promise<void>): void {
    this.#extra.push(write);
  }

  /** After the operation has applied: write. A failure is the caller's and ends the log (docs/design.md: errors are final). */
  async finish(write: () => Promise<void>): Promise<void> {
    try {
      for (const extra of this.#extra) await extra();
      await write();
      this.#resolve();
    } catch (error) {
      this.#reject(error);
      throw error;
    }
  }
}
