import { afterEach, expect, test } from 'vitest';
import { EX } from '../../src/locking/index.js';
import { type LockTable, LockSession, type Need, assertRanks, lockOrder } from '../../src/txn/index.js';
import { FREE_LOCKS } from '../support/context.js';
import { LockGraph } from '../support/lock-graph.js';

/** Every lock has to be waited for. */
const BUSY: LockTable = { ...FREE_LOCKS, tryHold: () => false };
afterEach(() => void (lockOrder.watch = assertRanks));

async function take(session: LockSession, name: string, rank: number): Promise<void> {
  session.begin();
  for (;;) {
    try {
      return void session.require(name, EX, rank);
    } catch (need) {
      await (need as Need).satisfy();
    }
  }
}

test('a session gives back what ranks after the lock it waits for', async () => {
  const session = new LockSession(BUSY);
  await take(session, 'late', 9);
  await take(session, 'early', 1);
  session.release();
});

test('waiting for a lock that ranks before one held around the operation fails', async () => {
  const session = new LockSession(BUSY, [{ name: 'open', rank: 4 }]);
  await take(session, 'inode', 5);
  await expect(take(session, 'super', 0)).rejects.toMatchObject({ code: 'LOCK_ORDER', fields: { wanted: 'super', held: 'open' } });
});

test('a circle of locks of one rank is found although nobody met', () => {
  const graph = new LockGraph();
  const stop = graph.watch();
  const wait = (held: string, wanted: string) => lockOrder.watch!({ name: wanted, rank: 5 }, [{ name: held, rank: 5 }]);
  wait('a', 'b');
  wait('b', 'c');
  graph.expectNoCircle();
  wait('c', 'a');
  stop();
  expect(() => graph.expectNoCircle()).toThrow('a → b → c → a');
});
