/**
 * A Dlm whose other node wants everything. For tests: as soon as a lock is granted, another node asks for it at a level
 * that is in the way, gets it once the caller steps down, keeps it for a moment and lets go. Trylocks are denied at
 * times, and events come in an order the dice choose. `onTaken` is the moment to look whether the caller has kept
 * anything it may no longer use.
 *
 * Operations still get done: every lock is granted in the end, because the other node always lets go and requests are
 * served in order; and a holder that has a lock keeps it until it drops it, so an operation that has got all the locks
 * it asked for runs once under them (lock-manager.ts). Each run either finishes or learns of one more lock or block, the
 * locks it knows are all held before the next run, and blocks stay cached as long as their lock is held.
 */
import { type Dlm, type DlmEvents, type DlmLock, type DlmRequest, LVB_SIZE } from './dlm.js';
import { EX, type LockLevel, NL, PR } from './levels.js';
import { MemoryDlm } from './memory-dlm.js';

export interface HostileDlmOptions {
  /** 0 <= x < 1. */
  readonly random: () => number;
  /** Run later: in this turn of the event loop, so that a lock is wanted back before its next use, or in a later one. */
  readonly defer: (fn: () => void) => void;
  /** The other node has been granted the lock at this level. Throw to fail the test. */
  readonly onTaken?: (name: string, level: LockLevel) => void;
  /** Chance that a trylock is denied for no reason. Default 0.2. */
  readonly denial?: number;
}

export class HostileDlm implements Dlm {
  readonly #master: MemoryDlm;
  /** Resources the other node wants or has at the moment. */
  readonly #coveted = new Set<string>();
  /** Times the other node got what it wanted. */
  taken = 0;

  constructor(private readonly options: HostileDlmOptions) {
    const { random, defer } = options;
    this.#master = new MemoryDlm({ defer, pick: (n) => Math.floor(random() * n) });
  }

  lock(name: string, level: LockLevel, events: DlmEvents, request: DlmRequest = {}): DlmLock {
    const { random, denial = 0.2 } = this.options;
    let asked = level;
    const watched: DlmEvents = {
      ast: (result, lvb) => {
        if (result === 'granted') this.#covet(name, asked);
        events.ast(result, lvb);
      },
      bast: (wanted) => events.bast(wanted),
      failed: (error) => events.failed(error),
    };
    const deny = (options: DlmRequest | undefined): boolean => options?.trylock === true && random() < denial;
    if (deny(request)) {
      this.options.defer(() => events.ast('again', new Uint8Array(LVB_SIZE)));
      return { convert: neverGranted, cancel: () => undefined, unlock: neverGranted };
    }
    const lock = this.#master.lock(name, level, watched, request);
    return {
      convert: (to, options) => {
        if (deny(options)) {
          this.options.defer(() => events.ast('again', new Uint8Array(LVB_SIZE)));
          return;
        }
        asked = to;
        lock.convert(to, options);
      },
      cancel: () => lock.cancel(),
      unlock: (lvb) => lock.unlock(lvb),
    };
  }

  /** The other node asks for what was just granted at `level`. */
  #covet(name: string, level: LockLevel): void {
    if (level === NL || this.#coveted.has(name)) return;
    const { random, defer, onTaken } = this.options;
    const wanted = level === EX && random() < 0.4 ? PR : EX;
    this.#coveted.add(name);
    // Open locks are held for as long as a file is open; nodes ask for EX without waiting (dlmglue.c:ocfs2_try_open_lock).
    const trylock = name.startsWith('O');
    const lock = this.#master.lock(name, wanted, {
      ast: (result) => {
        if (result !== 'granted') {
          this.#coveted.delete(name);
          return;
        }
        this.taken++;
        onTaken?.(name, wanted);
        const letGo = (): void => {
          this.#coveted.delete(name);
          lock.unlock();
        };
        if (random() < 0.5) letGo();
        else defer(letGo);
      },
      bast: () => undefined,
      failed: () => undefined,
    }, { trylock });
  }
}

function neverGranted(): never {
  throw new Error('a lock that was denied is used');
}
