/**
 * A data worker's decision about one request: a function of the request, the maps, the gate and the time, and of
 * nothing else (docs/design.md, section 2, "Recall"). The simulator can run the same code.
 */
import type { DirectMap, Gate } from '@lunfs/device';

/** Ask the owner: nothing is known of this range, or what is known no longer holds. */
export const OWNER = -1;
/** Ask the owner, and for no mapping: none could help (the request is not in whole blocks of the device). */
export const OWNER_UNALIGNED = -2;

/**
 * Device byte at which the worker may read or write [offset, offset+length) itself, *having entered the gate* (it must
 * `leave()` after the I/O); or OWNER / OWNER_UNALIGNED, with the gate not entered.
 *
 * The order is the gate's protocol: the map is consulted under the epoch it was filled in, then `enter` publishes the
 * request and only then compares epoch and deadline. `now` in monotonic milliseconds.
 */
export function decide(offset: number, length: number, write: boolean, map: DirectMap, gate: Gate, alignment: number, now: number): number {
  if (offset % alignment !== 0 || length % alignment !== 0) return OWNER_UNALIGNED;
  const device = map.find(offset);
  if (device < 0 || map.available(offset) < length || device % alignment !== 0) return OWNER;
  return gate.enter(map.epoch, now, write) ? device : OWNER;
}
