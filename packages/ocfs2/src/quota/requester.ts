/**
 * For whom the operations under way are done. Linux asks `capable()` of the current task when it meets a limit, deep below
 * the call that knew the caller; this is the same for asynchronous code. Work nobody asked for (recovery, the operator's
 * commands, exports) is not limited.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface Requester {
  readonly uid: number;
}

const current = new AsyncLocalStorage<Requester>();

/** Run `work` and all that it starts for a requester. */
export function asRequester<T>(requester: Requester, work: () => T): T {
  return current.run(requester, work);
}

/** May the operation under way pass limits? Root may (CAP_SYS_RESOURCE; FUSE tells the uid alone). */
export function mayPassLimits(): boolean {
  const requester = current.getStore();
  return requester === undefined || requester.uid === 0;
}
