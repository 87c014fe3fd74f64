/** A Dlm for one node alone: everything is granted at once, nobody ever waits, no BAST comes. */
import { type Dlm, type DlmEvents, type DlmLock, LVB_SIZE } from './dlm.js';
import type { LockLevel } from './levels.js';

/** Nobody else could have written a value block, and our own are not worth keeping: every grant says "not valid". */
const NO_LVB = new Uint8Array(LVB_SIZE);

export class LocalDlm implements Dlm {
  readonly immediate = true;

  lock(_name: string, _level: LockLevel, events: DlmEvents): DlmLock {
    events.ast('granted', NO_LVB);
    return {
      convert: () => events.ast('granted', NO_LVB),
      cancel: () => undefined,
      unlock: () => undefined,
    };
  }
}
