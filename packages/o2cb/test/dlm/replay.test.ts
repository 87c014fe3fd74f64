import { describe, expect, it } from 'vitest';
import { type MigratedResource, decode } from '../../src/dlm/messages.js';
import { EX, NL, PR, TYPE } from '../../src/dlm/status.js';
import { Replay, type Script, exchanges } from './support/replay.js';

const DOMAIN = '0123456789ABCDEF0123456789ABCDEF';
const cookie = (node: number, sequence: number) => (BigInt(node) << 56n) | BigInt(sequence);
const lvb = (hex: string) => new Uint8Array(Buffer.from(hex.padEnd(128, '0'), 'hex'));
const members = [1, 2, 3];

function replay(script: Script, prepare: (it: Replay) => void = () => {}): Replay {
  const it = new Replay(script);
  prepare(it);
  it.run();
  expect(it.differences).toEqual([]);
  return it;
}

const migrated = (capture: string) => exchanges(capture).filter(({ type }) => type === TYPE.MIG_LOCKRES).map((exchange) => ({ ...exchange, message: decode(TYPE.MIG_LOCKRES, exchange.payload) as MigratedResource }));

describe('joining (checklist 5): join-race.pcap', () => {
  const types = { capture: 'join-race', live: members, until: 4.8755 };

  it('node 1, a member: one at a time', () => {
    const it = replay({ ...types, node: 1, members: [1] });
    expect([...it.core.domain]).toEqual([1, 3]);
    expect(it.core.joiningNode).toBe(255);
  });

  it('node 3: DISALLOW, CANCEL_JOIN to whom had said OK, OK_NO_MAP, and in', () => {
    // The kernel waited 200 ms: the clock is set so that we do.
    const it = replay({ ...types, node: 3, clock: 3, calls: [[4.6485, (r) => r.domain.join(() => r.told.push('joined'))]] });
    expect(it.told).toEqual(['joined']);
    expect([...it.core.domain]).toEqual([1, 3]);
  });

  it('node 2: refused, back later, a member as third', () => {
    const it = replay({ ...types, until: 5.0945, node: 2, clock: 11, lag: 2.5, calls: [[4.6505, (r) => r.domain.join(() => r.told.push('joined'))]] });
    expect(it.told).toEqual(['joined']);
    expect([...it.core.domain]).toEqual(members);
  });
});

describe('mastery (checklist 6): mastery-race.pcap', () => {
  const [first, second] = ['F000000000000000001121c94d7982a', 'F000000000000000001121f94d7982c'];
  const script = { capture: 'mastery-race', live: members, members };
  const work = (label: string, name: string, at: readonly [number, number, number, number], mine?: bigint): NonNullable<Script['calls']> => [
    [at[0], (r) => {
      if (mine !== undefined) r.cookies.push(mine);
      r.lock(label, name, NL);
    }],
    [at[1], (r) => r.get(label).convert(EX)],
    [at[2], (r) => r.get(label).convert(NL)],
    [at[3], (r) => r.get(label).unlock()],
  ];

  it('node 1: wins the first, is blocked in the second', () => {
    const it = replay({ ...script, node: 1, calls: [...work('first', first, [0.807, 1.75, 2.7365, 2.7366]), ...work('second', second, [6.3, 6.8965, 8.7905, 8.7935], cookie(1, 218))] });
    expect(it.told).toEqual(['first granted', 'first granted', 'first bast 5', 'first granted', 'second granted', 'second granted', 'second granted']);
    expect(it.core.mles.size).toBe(0);
    expect([...(it.core.resources.get(first)?.refmap ?? [])]).toEqual([3]);
    expect(it.core.resources.get(second)?.owner).toBe(3);
  });

  it('node 3: loses the first, FORWARD while the other asserts, wins the second', () => {
    const it = replay({ ...script, node: 3, calls: [...work('first', first, [1.2175, 1.8438, 3.7405, 3.7455], cookie(3, 174)), ...work('second', second, [5.8475, 6.79, 7.787, 7.7871])] });
    expect(it.core.mles.size).toBe(0);
    expect(it.core.resources.get(first)?.owner).toBe(1);
    expect([...(it.core.resources.get(second)?.refmap ?? [])]).toEqual([1]);
  });

  it('node 2: NO to both, remembers them until somebody asserts', () => {
    const it = replay({ ...script, node: 2 });
    expect(it.core.mles.size).toBe(0);
    expect(it.core.resources.size).toBe(0);
  });
});

describe('who is granted what (checklist 7): ASTs and BASTs', () => {
  const meta = 'M000000000000000001121700000000';
  const before = lvb('050000010000000000000000000000001ac0bb05f342b30a1ac0bb05c6ea04321ac0bb05c6ea0432000000000000000681a40001000000001f23c58900000000');

  it('lock-contention.pcap, node 1, the owner', () => {
    const it = replay({
      capture: 'lock-contention', node: 1, live: members, members,
      calls: [[2.6265, (r) => r.get('meta').convert(PR)]],
    }, (r) => {
      r.hold('meta', meta, 1, cookie(1, 999), NL, before);
      r.seed(meta, 1, [{ cookie: cookie(2, 12), node: 2, mode: PR }, { cookie: cookie(3, 12), node: 3, mode: PR }], before);
      r.seed('W00000000000000000112171f23c589', 1).inflight++;
    });
    expect(it.told).toEqual(['meta granted']);
  });

  it('lock-contention.pcap, node 2, which wants EX', () => {
    const it = replay({
      capture: 'lock-contention', node: 2, live: members, members,
      calls: [
        [1.8015, (r) => {
          r.cookies.push(cookie(2, 14));
          r.lock('write', 'W00000000000000000112171f23c589', EX);
        }],
        [1.8105, (r) => r.get('meta').convert(EX)],
        [2.6305, (r) => r.get('meta').convert(PR, { lvb: lvb('050000010000000000000000000000001ac0bb0b9efeb9491ac0bb0b9e84a7491ac0bb0b9e84a749000000000000000b81a40001000000001f23c58900000000') })],
      ],
    }, (r) => r.hold('meta', meta, 1, cookie(2, 12), PR, before));
    expect(it.told).toEqual(['write granted', 'meta granted', 'meta bast 3', 'meta granted']);
  });

  it('cancel-convert.pcap, node 2, the owner: crossing conversions and a cancel', () => {
    const name = 'M000000000000000002760300000000';
    const value = exchanges('cancel-convert').map(({ type, payload }) => (type === TYPE.PROXY_AST ? decode(TYPE.PROXY_AST, payload).lvb : undefined)).find((it) => it !== undefined);
    const it = replay({ capture: 'cancel-convert', node: 2, live: members, members }, (r) => {
      r.seed(name, 2, [{ cookie: cookie(1, 220), node: 1, mode: PR }, { cookie: cookie(3, 177), node: 3, mode: PR }], value);
    });
    expect(it.core.resources.get(name)?.granted.map(({ node, mode }) => [node, mode])).toEqual([[1, NL], [3, EX]]);
  });
});

describe('migration and recovery (checklist 8)', () => {
  const capture = 'umount-master-migration';

  it(`${capture}.pcap, node 1, which leaves: 34 resources go, all members hear it`, () => {
    const it = replay({ capture, node: 1, live: members, members, since: 0.02, repeated: [TYPE.DEREF_LOCKRES], calls: [[0.0225, (r) => r.domain.leave(() => r.told.push('left'))]] }, (r) => {
      for (const { from, to, message } of migrated(capture)) {
        if (from !== 1) continue;
        const locks = message.locks.filter((lock) => lock.cookie !== 0n);
        const res = r.seed(message.name, 1, locks, message.lvb);
        for (const lock of res.locks()) if (lock.mode > NL) lock.lvb = message.lvb;
        if (locks.length === 0) res.refmap.add(to);
      }
      const gone = exchanges(capture).filter(({ type, from }) => type === TYPE.DEREF_LOCKRES && from === 1);
      for (const { to, payload } of gone) {
        const { name } = decode(TYPE.DEREF_LOCKRES, payload);
        if (!r.core.resources.has(name)) r.core.calcUsage(r.seed(name, to));
      }
    });
    expect(it.told).toEqual(['left']);
    expect(it.core.resources.size).toBe(0);
  });

  it.each([2, 3])(`${capture}.pcap, node %i, target of some and a third of others`, (node) => {
    const it = replay({ capture, node, live: members, members, since: 0.02, repeated: [TYPE.DEREF_LOCKRES_DONE] }, (r) => {
      for (const { message } of migrated(capture)) {
        const mine = message.locks.filter((lock) => lock.node === node && lock.cookie !== 0n);
        if (mine.length > 0) for (const lock of r.seed(message.name, 1, mine).locks()) if (lock.mode > NL) lock.lvb = message.lvb;
      }
      for (const { type, to, payload, status } of exchanges(capture)) if (type === TYPE.ASSERT_MASTER && to === node && status === 2) r.seed(decode(TYPE.ASSERT_MASTER, payload).name, 1);
      for (const { type, from, to, payload } of exchanges(capture)) {
        if (type === TYPE.DEREF_LOCKRES && from === 1 && to === node) {
          const { name } = decode(TYPE.DEREF_LOCKRES, payload);
          if (!migrated(capture).some(({ message }) => message.name === name)) r.seed(name, node).refmap.add(1);
        }
      }
    });
    const taken = migrated(capture).filter(({ to }) => to === node).map(({ message }) => message.name);
    expect(taken.length).toBeGreaterThan(2);
    for (const name of taken) {
      const res = it.core.resources.get(name);
      expect(res?.owner).toBe(node);
      expect([...(res?.refmap ?? [])]).not.toContain(1);
    }
    expect(it.core.mles.size).toBe(0);
    expect([...it.core.domain]).toEqual([2, 3]);
  });

  it('recovery-dead-node.pcap, node 3, which hands over its locks', () => {
    const it = replay({ capture: 'recovery-dead-node', node: 3, live: members, members, since: 1, until: 68.629, calls: [[63.43, (r) => r.down(2)]] }, (r) => {
      for (const { from, message } of migrated('recovery-dead-node')) {
        if (from === 3) for (const lock of r.seed(message.name, 2, message.locks.filter((entry) => entry.cookie !== 0n)).locks()) if (lock.mode > NL) lock.lvb = message.lvb;
      }
      r.seed('M000000000000000000001a35d139ca', 3).refmap.add(1);
      // The kernel's thread looks every 5 s and was the later one; ours would have been recovery master.
      r.core.migrateDone = true;
    });
    expect(it.evicted).toContain(2);
    for (const { message } of migrated('recovery-dead-node')) expect(it.core.resources.get(message.name)?.owner).toBe(1);
    expect([...it.core.domain]).toEqual([1, 3]);
    expect(it.core.recovery.lowest).toBeUndefined();
  });

  it('recovery-dead-node.pcap, node 1, the recovery master', () => {
    const it = replay({
      capture: 'recovery-dead-node', node: 1, live: members, members, since: 0.008, until: 68.6, repeated: [TYPE.MASTER_REQUEST, TYPE.DEREF_LOCKRES],
      calls: [[0.0085, (r) => r.lock('open', 'O000000000000000002760200000000', PR)], [63.4415, (r) => r.down(2)]],
    });
    for (const { message } of migrated('recovery-dead-node')) {
      const res = it.core.resources.get(message.name);
      expect(res?.owner).toBe(1);
      expect(res?.state).toBe(message.name.startsWith('O00000000000000000276020') ? 2 : 0);
      expect([...(res?.refmap ?? [])]).toEqual([3]);
    }
    expect(it.core.recovery.lowest).toBeUndefined();
    expect(it.domain.name).toBe(DOMAIN);
  });
});
