/**
 * Watches the locks of all processes from outside: levels that may not be held together are never held together, and a value block is
 * either the last that was put or none. Told by the lock manager's port of each mount, so it sees what the file system relies on.
 *
 * A process that was killed holds nothing; if the others were given its locks while it lived, that shows as two holders.
 */
import { type Dlm, type DlmEvents, type DlmLock, type DlmRequest, EX, type LockLevel, NL, compatible } from '@lunfs/ocfs2';
import type { Requester } from './disk.js';
import type { Trace } from './trace.js';

/** Whose locks are watched. */
export interface Holder extends Requester {
  superseded: string | undefined;
}

interface Holding {
  level: LockLevel;
  /** Given when the process was fenced already: nothing can be changed under it, and the others may rightly know nothing of it. */
  idle: boolean;
}

interface Watched {
  readonly holders: Map<Holder, Set<Holding>>;
  /** The value block put last, as text; undefined: none may be valid. */
  value: string | undefined;
}

export class LockWitness {
  grants = 0;
  readonly #locks = new Map<string, Watched>();

  constructor(private readonly trace: Trace) {}

  /** The process's lock manager, watched. */
  watch(who: Holder, dlm: Dlm): Dlm {
    return { lock: (name, level, events, request) => this.#lock(who, dlm, name, level, events, request) };
  }

  /** The process is dead. What it could have changed under EX has not come into the value block. */
  died(who: Holder): void {
    for (const watched of this.#locks.values()) {
      for (const { level, idle } of watched.holders.get(who) ?? []) if (level === EX && !idle) watched.value = undefined;
      watched.holders.delete(who);
    }
  }

  /** The process, fenced before, may submit again: what it was given meanwhile counts. */
  opened(who: Holder): void {
    for (const { holders } of this.#locks.values()) for (const holding of holders.get(who) ?? []) holding.idle = false;
  }

  #watched(name: string): Watched {
    let watched = this.#locks.get(name);
    if (watched === undefined) this.#locks.set(name, (watched = { holders: new Map(), value: undefined }));
    return watched;
  }

  #lock(who: Holder, dlm: Dlm, name: string, level: LockLevel, events: DlmEvents, request?: DlmRequest): DlmLock {
    const watched = this.#watched(name);
    const mine: Holding = { level: NL, idle: false };
    let wanted = level;
    const granted = (lvb: Uint8Array): void => {
      this.grants++;
      const before = mine.level;
      mine.level = wanted;
      mine.idle = who.fenced;
      this.trace.note(`${who.name} has ${printable(name)} at ${wanted}`);
      let held = watched.holders.get(who);
      if (held === undefined) watched.holders.set(who, (held = new Set()));
      held.add(mine);
      for (const [other, holdings] of watched.holders) {
        for (const holding of holdings) {
          // Flocks of one process are locks of their own.
          if (holding === mine || compatible(holding.level, wanted)) continue;
          // Who is fenced does nothing with it, and must do nothing ever after. It may be taken over (all nodes hung, agreed to wait for each
          // other, and somebody else came), or take the others for dead before it ends, for its own heartbeat is over.
          if (other.fenced) other.superseded = `${who.name} was given ${printable(name)}`;
          else if (who.fenced) who.superseded = `it was given ${printable(name)} beside ${other.name}`;
          else this.trace.violation(`${who.name} is given ${printable(name)} at level ${wanted} while ${other.name} holds it at ${holding.level}`);
        }
      }
      if (before !== NL || wanted === NL || lvb.every((byte) => byte === 0)) return;
      const text = Buffer.from(lvb).toString('hex');
      if (text !== watched.value) this.trace.violation(`${who.name} is given ${printable(name)} at level ${wanted} with the value block ${text}, ${watched.value === undefined ? 'and there is none' : `put last was ${watched.value}`}`);
    };
    const put = (lvb: Uint8Array | undefined): void => {
      if (lvb !== undefined && mine.level === EX) watched.value = Buffer.from(lvb).toString('hex');
    };
    const lock = dlm.lock(name, level, {
      ast: (result, lvb) => {
        if (result === 'granted') granted(lvb);
        events.ast(result, lvb);
      },
      bast: (blocked) => events.bast(blocked),
      failed: (error) => events.failed(error),
    }, request);
    return {
      convert: (to, how) => {
        put(how?.lvb);
        wanted = to;
        // A step down is given up at once.
        if (to < mine.level) mine.level = to;
        lock.convert(to, how);
      },
      cancel: () => lock.cancel(),
      unlock: (lvb) => {
        put(lvb);
        mine.level = NL;
        const held = watched.holders.get(who);
        held?.delete(mine);
        if (held?.size === 0) watched.holders.delete(who);
        lock.unlock(lvb);
      },
    };
  }
}

function printable(name: string): string {
  return name.replaceAll(/[^\x21-\x7e]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
