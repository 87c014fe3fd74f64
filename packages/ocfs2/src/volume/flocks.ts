/**
 * flock(2) in the cluster: a lock of the Dlm per file and owner (an open file description), on one resource per inode, so that
 * owners of one host meet each other there as those of two hosts do (Linux 6.1 fs/ocfs2/locks.c, dlmglue.c:ocfs2_file_lock).
 *
 * As the kernel does it: a lock begins at NL and is converted; another level is asked for from NL again, so changing it is
 * not atomic; unlocking converts to NL at once, nothing is cached; basts are not heeded, for the owner lets go when he likes.
 * fcntl's byte-range locks are no business of the cluster with this stack: each host has its own.
 */
import { ClusterError, UsageError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import type { AstResult, Dlm, DlmLock } from '../locking/dlm.js';
import { type EX, type LockLevel, NL, PR, lockName } from '../locking/levels.js';
import { liveInode } from './attributes.js';

export interface FlockOptions {
  /** Wait until the lock is free. Default: say no. */
  readonly wait?: boolean;
  /** Stop waiting: the lock is not taken and INTERRUPTED is thrown, unless it was granted at the same moment. */
  readonly signal?: AbortSignal;
}

/** One owner's lock on one file. */
class Flock {
  level: LockLevel = NL;
  /** One call of the owner at a time. */
  turn: Promise<unknown> = Promise.resolve();
  #handle: DlmLock | undefined;
  #asked: { readonly resolve: (result: AstResult) => void; readonly reject: (error: Error) => void } | undefined;
  #failed: Error | undefined;

  constructor(private readonly dlm: Dlm, readonly name: string) {}

  /** False: others are in the way, and it is not to be waited for. */
  async take(level: typeof PR | typeof EX, { wait = false, signal }: FlockOptions): Promise<boolean> {
    if (this.level === level) return true;
    if (this.level !== NL) await this.drop();
    if (this.#handle === undefined) {
      await this.#ask(() => {
        this.#handle = this.dlm.lock(this.name, NL, {
          ast: (result) => this.#asked?.resolve(result),
          bast: () => undefined,
          failed: (error) => {
            this.#failed = error;
            this.#asked?.reject(error);
          },
        });
      });
    }
    const cancel = (): void => this.#handle?.cancel();
    const asked = this.#ask(() => this.#handle?.convert(level, { trylock: !wait }));
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted) cancel();
    const result = await asked.finally(() => signal?.removeEventListener('abort', cancel));
    if (result === 'cancelled') throw new UsageError('INTERRUPTED', 'EINTR', 'waiting for a file lock was interrupted');
    if (result === 'granted') this.level = level;
    return result === 'granted';
  }

  async drop(): Promise<void> {
    if (this.level === NL) return;
    await this.#ask(() => this.#handle?.convert(NL));
    this.level = NL;
  }

  async close(): Promise<void> {
    await this.drop();
    this.#handle?.unlock();
    this.#handle = undefined;
  }

  #ask(call: () => void): Promise<AstResult> {
    if (this.#failed !== undefined) throw new ClusterError('LOCK_STUCK', `file lock ${this.name} cannot be used any more (${this.#failed.message}); unmount the volume on this node`, { lock: this.name }, this.#failed, 'EIO');
    return new Promise<AstResult>((resolve, reject) => {
      this.#asked = { resolve, reject };
      call();
    });
  }
}

export class Flocks {
  /** By file and owner. */
  readonly #locks = new Map<string, Flock>();

  constructor(private readonly ctx: FsContext, private readonly dlm: Dlm) {}

  /** Locks known, of owners that have one or had one and did not close their file. */
  get size(): number {
    return this.#locks.size;
  }

  /**
   * Lock a file shared (PR) or exclusively (EX). False: somebody is in the way and `wait` is not set; a lock the owner had at
   * another level is gone then. Throws STALE, INTERRUPTED. Whoever waits keeps the volume from being unmounted.
   */
  async lock(ino: number, owner: bigint, level: typeof PR | typeof EX, options: FlockOptions = {}): Promise<boolean> {
    const { generation } = await this.ctx.engine.read('flock', (op) => liveInode(op, this.ctx, ino, PR).di);
    const key = `${ino} ${owner}`;
    let lock = this.#locks.get(key);
    if (lock === undefined) this.#locks.set(key, (lock = new Flock(this.dlm, lockName('F', ino, generation))));
    const found = lock;
    return this.#inTurn(found, () => found.take(level, options));
  }

  /** Give the owner's lock on a file up, if there is one. */
  async unlock(ino: number, owner: bigint): Promise<void> {
    const lock = this.#locks.get(`${ino} ${owner}`);
    if (lock !== undefined) await this.#inTurn(lock, () => lock.drop());
  }

  /** The owner is gone: its file was closed for the last time. */
  async close(ino: number, owner: bigint): Promise<void> {
    const key = `${ino} ${owner}`;
    const lock = this.#locks.get(key);
    if (lock === undefined) return;
    this.#locks.delete(key);
    await this.#inTurn(lock, () => lock.close());
  }

  /** All owners are gone. */
  async closeAll(): Promise<void> {
    const all = [...this.#locks.values()];
    this.#locks.clear();
    await Promise.all(all.map((lock) => this.#inTurn(lock, () => lock.close())));
  }

  #inTurn<T>(lock: Flock, work: () => Promise<T>): Promise<T> {
    const result = lock.turn.then(work);
    lock.turn = result.catch(() => undefined);
    return result;
  }
}
