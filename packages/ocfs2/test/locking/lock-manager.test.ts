import { Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { EX, HostileDlm, LocalDlm, type LockLevel, LockManager, type LockManagerOptions, MemoryDlm, NL, PR, dentryLockName, lockName } from '../../src/locking/index.js';

const A = lockName('M', 100, 0), B = lockName('M', 200, 0);

/** Let everything that is on its way arrive. */
async function settled(turns = 50): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
}

function manager(options: Partial<LockManagerOptions> & Pick<LockManagerOptions, 'dlm'>): { locks: LockManager; log: string[] } {
  const log: string[] = [];
  const locks = new LockManager({
    dropOwner: (name) => log.push(`drop ${name.at(0)}`),
    settle: async (name) => void log.push(`settle ${name.at(0)}`),
    ...options,
  });
  return { locks, log };
}

describe('names', () => {
  test('have 31 bytes in every form', () => {
    // Names seen on the wire (cluster-protocols.md 7.1).
    expect(lockName('M', 5, 0x35d139ca)).toBe('M000000000000000000000535d139ca');
    expect(dentryLockName(5, 11216)).toBe(`N0000000000000005\0${'\0'.repeat(6)}\x2b\xd0${'\0'.repeat(5)}`);
    expect(dentryLockName(5, 11216)).toHaveLength(31);
  });
});

describe('a lock', () => {
  test('is cached, shared by holders of one node, and refused at a higher level until it is asked for', async () => {
    const { locks, log } = manager({ dlm: new MemoryDlm() });
    expect(locks.tryHold(A, PR)).toBe(false);
    await locks.hold(A, PR);
    expect(locks.tryHold(A, PR)).toBe(true);
    expect(locks.tryHold(A, EX)).toBe(false);
    await locks.hold(A, EX);
    expect(locks.levelOf(A)).toBe(EX);
    locks.drop(A, PR);
    locks.drop(A, PR);
    locks.drop(A, EX);
    expect(() => locks.drop(A, EX)).toThrow('not held');
    expect(locks.tryHold(A, EX)).toBe(true);
    locks.drop(A, EX);
    expect(log).toEqual([]);
    await locks.close();
    expect(log).toEqual(['settle M', 'drop M']);
    expect(locks.size).toBe(0);
  });

  test('of a Dlm that never waits is taken without asking first, at a higher level too', async () => {
    const { locks, log } = manager({ dlm: new LocalDlm(), capacity: 3 });
    expect(locks.tryHold(A, PR)).toBe(true);
    expect(locks.tryHold(A, EX)).toBe(true);
    expect(locks.levelOf(A)).toBe(EX);
    for (let i = 1; i <= 9; i++) {
      const name = lockName('M', i, 0);
      expect(locks.tryHold(name, EX)).toBe(true);
      locks.drop(name, EX);
    }
    await settled();
    expect(locks.levelOf(A)).toBe(EX); // held: not evicted
    expect(locks.size).toBeLessThan(6);
    locks.drop(A, PR);
    locks.drop(A, EX);
    await locks.close();
    expect(log.filter((line) => line.startsWith('settle'))).toHaveLength(10);
  });

  test('goes to the other node when its holders are gone, and nobody here overtakes that', async () => {
    const dlm = new MemoryDlm();
    const steps: string[] = [];
    const { locks: one, log } = manager({ dlm, onDowngrade: async (_n, from, to) => void steps.push(`${from}>${to}`) });
    const { locks: two } = manager({ dlm });
    await one.hold(A, EX);
    let got = false;
    const other = two.hold(A, EX).then(() => (got = true));
    await settled();
    expect(got).toBe(false);
    expect(one.tryHold(A, EX)).toBe(false); // the other node waits
    const again = one.hold(A, PR);
    one.drop(A, EX);
    await other;
    expect(steps).toEqual(['5>0']);
    expect(log).toEqual(['settle M', 'drop M']);
    expect(one.levelOf(A)).toBe(NL);
    two.drop(A, EX);
    await again;
    expect(two.levelOf(A)).toBe(PR); // only as far down as it had to
    one.drop(A, PR);
  });

  test('shared with a reader stays readable here, and its blocks stay cached', async () => {
    const dlm = new MemoryDlm();
    const { locks: one, log } = manager({ dlm });
    const { locks: two } = manager({ dlm });
    await one.hold(A, EX);
    one.drop(A, EX);
    await two.hold(A, PR);
    expect(one.levelOf(A)).toBe(PR);
    expect(one.tryHold(A, PR)).toBe(true);
    expect(log).toEqual(['settle M']);
  });

  test('two readers that both want to write both get there', async () => {
    const dlm = new MemoryDlm({ defer: (fn) => void setImmediate(fn) });
    const nodes = [manager({ dlm }).locks, manager({ dlm }).locks, manager({ dlm }).locks];
    for (const node of nodes) {
      await node.hold(A, PR);
      node.drop(A, PR);
    }
    let inside = 0;
    await Promise.all(nodes.map(async (node) => {
      await node.hold(A, EX);
      expect(++inside).toBe(1);
      await settled(3);
      inside--;
      node.drop(A, EX);
    }));
  });

  test('carries its value block from writer to reader', async () => {
    const dlm = new MemoryDlm();
    const seen: number[] = [];
    const value = new Uint8Array(64).fill(7);
    const { locks: one } = manager({ dlm, lvb: () => value });
    const { locks: two } = manager({ dlm, onGranted: (_n, _l, lvb) => void seen.push(lvb[0]) });
    await two.hold(A, PR);
    two.drop(A, PR);
    await one.hold(A, EX);
    one.drop(A, EX);
    await two.hold(A, PR);
    expect(seen).toEqual([0, 7]);
  });

  test('given up for good is gone, unless somebody here wants it again: nobody waits for his end of it', async () => {
    const { locks } = manager({ dlm: new MemoryDlm() });
    await locks.hold(A, PR);
    locks.drop(A, PR);
    await locks.surrender(A);
    expect(locks.size).toBe(0);
    await locks.hold(A, PR);
    const gone = locks.surrender(A), again = locks.hold(A, PR);
    locks.drop(A, PR);
    await Promise.all([gone, again]);
    expect(locks.levelOf(A)).toBe(PR);
    locks.drop(A, PR);
    await locks.close();
  });

  test('given up while somebody here only tries it is gone once he is told no', async () => {
    let shut = true;
    const dlm = new MemoryDlm();
    const { locks: one } = manager({ dlm, gated: () => shut });
    const { locks: two } = manager({ dlm });
    await two.hold(A, PR);
    const wanted = one.hold(A, PR);
    await settled();
    const tried = one.tryLock(A, EX), gone = one.surrender(A);
    shut = false;
    one.gateOpened();
    await wanted;
    one.drop(A, PR);
    expect(await tried).toBe(false);
    await gone;
    await settled();
    expect(one.size).toBe(0);
    two.drop(A, PR);
  });

  test('that the gate keeps is asked for by another node: nobody here gets it when the gate opens while it goes', async () => {
    // What ran under it then would change blocks that the other node has: one of two changes would be lost.
    for (const opens of ['while it settles', 'while the convert is on its way'] as const) {
      let shut = true, settle = (): void => undefined;
      const events: (() => void)[] = [];
      const dlm = new MemoryDlm({ defer: (fn) => void events.push(fn) });
      const { locks: one } = manager({ dlm, gated: () => shut, settle: () => new Promise((resolve) => (settle = resolve)) });
      const { locks: two } = manager({ dlm });
      const arrive = async (): Promise<void> => {
        for (let i = 0; i < 20; i++) {
          for (const event of events.splice(0)) event();
          await settled(1);
        }
      };
      let held = '';
      const mine = take(one, 'one'), theirs = settled(1).then(() => take(two, 'two'));
      async function take(locks: LockManager, who: string): Promise<void> {
        await locks.hold(A, EX);
        expect(held).toBe('');
        held = who;
      }
      await arrive(); // granted and gated, asked for, on its way down
      shut = false;
      if (opens === 'while it settles') one.gateOpened();
      await settled(3);
      settle();
      await settled(3);
      if (opens !== 'while it settles') one.gateOpened();
      await arrive();
      expect(held).toBe('two');
      held = '';
      two.drop(A, EX);
      await arrive();
      await Promise.all([mine, theirs]);
      expect(held).toBe('one');
      one.drop(A, EX);
    }
  });

  test('tried and not got leaves nothing behind', async () => {
    const dlm = new MemoryDlm();
    const { locks: one } = manager({ dlm });
    const { locks: two } = manager({ dlm });
    await one.hold(A, PR);
    expect(await two.tryLock(A, EX)).toBe(false);
    expect(await two.tryLock(A, PR)).toBe(true);
    expect(await two.tryLock(A, EX)).toBe(false);
    expect(two.levelOf(A)).toBe(PR);
    one.drop(A, PR);
    two.drop(A, PR);
  });

  test('that cannot be settled is kept, and nobody uses it any more', async () => {
    const dlm = new MemoryDlm();
    const stuck: string[] = [];
    const { locks: one } = manager({ dlm, settle: () => Promise.reject(new Error('no log')), onStuck: (name) => void stuck.push(name) });
    const { locks: two } = manager({ dlm });
    await one.hold(A, EX);
    let got = false;
    two.hold(A, PR).then(() => (got = true), () => undefined);
    one.drop(A, EX);
    await settled();
    expect(got).toBe(false);
    expect(stuck).toEqual([A]);
    expect(one.tryHold(A, PR)).toBe(false);
    await expect(one.hold(A, PR)).rejects.toMatchObject({ code: 'LOCK_STUCK' });
  });

  test('can be used by the operations that its own downgrade runs', async () => {
    const dlm = new MemoryDlm();
    let folded = false;
    const { locks: one } = manager({ dlm, onDowngrade: async (name, from, _to, inside) => {
      expect(inside.tryHold(name, from)).toBe(true);
      await inside.hold(B, EX);
      inside.drop(B, EX);
      inside.drop(name, from);
      folded = true;
    } });
    const { locks: two } = manager({ dlm });
    await one.hold(A, EX);
    one.drop(A, EX);
    await two.hold(A, EX);
    expect(folded).toBe(true);
  });
});

test('the cache of locks has a limit, and what is held does not count', async () => {
  const { locks, log } = manager({ dlm: new LocalDlm(), capacity: 10 });
  const held = lockName('M', 1, 0);
  await locks.hold(held, EX);
  for (let i = 2; i < 200; i++) {
    await locks.hold(lockName('M', i, 0), PR);
    locks.drop(lockName('M', i, 0), PR);
  }
  expect(locks.size).toBeLessThan(15);
  expect(locks.levelOf(held)).toBe(EX);
  expect(log).not.toContain('settle M');
});

describe.each([1, 2, 3, 4, 5])('nodes that fight over locks, seed %i', (seed) => {
  test('never hold what excludes each other, and all get done', async () => {
    const random = new Random(seed);
    const dlm = new MemoryDlm({ defer: (fn) => void setImmediate(fn), pick: (n) => random.int(n) });
    const names = [A, B, lockName('M', 300, 0)];
    const holders = new Map<string, { level: LockLevel; node: number }[]>(names.map((n) => [n, []]));
    await Promise.all([0, 1, 2].map(async (node) => {
      // The gate shuts and opens as when members die, giving a lock up takes its time, and users give up what they don't hold.
      let shut = false;
      const { locks } = manager({ dlm, capacity: 2, gated: () => shut, settle: () => settled(random.int(4)) });
      const gate = async (): Promise<void> => {
        if (!random.chance(0.1)) return;
        shut = true;
        await settled(random.int(6));
        shut = false;
        locks.gateOpened();
      };
      await Promise.all([0, 1].map(async () => {
        for (let i = 0; i < 60; i++) {
          void gate();
          if (random.chance(0.1)) locks.giveUp(random.pick(names));
          if (random.chance(0.1)) await locks.surrender(random.pick(names));
          // In one order, as lock-session.ts takes them.
          const wanted = names.filter(() => random.chance(0.5)).map((name) => ({ name, level: random.chance(0.5) ? PR : EX }) as const);
          const got: typeof wanted = [];
          for (const w of wanted) {
            const trial = random.chance(0.2);
            if (!trial) await locks.hold(w.name, w.level);
            if (!trial || (await locks.tryLock(w.name, w.level))) got.push(w);
          }
          for (const { name, level } of got) {
            for (const other of holders.get(name)!) expect(other.node === node || (other.level === PR && level === PR)).toBe(true);
            holders.get(name)!.push({ level, node });
          }
          await settled(random.int(3));
          for (const { name, level } of got) {
            const list = holders.get(name)!;
            list.splice(list.findIndex((h) => h.node === node && h.level === level), 1);
            locks.drop(name, level);
          }
        }
      }));
    }));
  });

  test('and against a node that wants everything', async () => {
    const random = new Random(seed);
    const dlm = new HostileDlm({ random: () => random.float(), defer: (fn) => (random.chance(0.8) ? queueMicrotask(fn) : void setImmediate(fn)) });
    const { locks } = manager({ dlm });
    for (let i = 0; i < 100; i++) {
      const level = random.chance(0.5) ? PR : EX;
      await locks.hold(A, level);
      await locks.hold(B, level);
      locks.drop(A, level);
      locks.drop(B, level);
      await settled(random.int(2));
    }
    expect(dlm.taken).toBeGreaterThan(20);
  });
});
