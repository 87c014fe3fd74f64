/** Ways to panic a kernel peer (cluster-protocols.md 12), each with what this node does instead. */
import { describe, expect, it } from 'vitest';
import { joinReply } from '../../src/dlm/messages.js';
import { Lock, RES, Resource } from '../../src/dlm/resource.js';
import { ASSERT_FLAG, AST, BAST, EX, FLAG, IV, MRES, NL, PR, STATUS, TYPE } from '../../src/dlm/status.js';
import { NodeMap } from '../../src/node-map.js';
import { Scripted } from './support/scripted.js';

const name = 'M'.padEnd(31, '0');
const OK = joinReply(1, 3, 0);
const members = [1, 2, 3];

/** A resource of a member, owned by whom, with locks of this node and others: node, mode, queue. */
function resource(it: Scripted, owner: number, state = 0, locks: readonly (readonly [node: number, mode: number, queue?: 'granted' | 'converting' | 'blocked'])[] = []): Resource {
  const res = new Resource(name);
  res.owner = owner;
  res.state = state;
  locks.forEach(([node, mode, queue = 'granted'], i) => {
    res.move(new Lock(res, (BigInt(node) << 56n) | BigInt(i + 1), node, mode), queue);
    if (owner === it.local && node !== owner) res.refmap.add(node);
  });
  it.core.insert(res);
  return res;
}

const states = [0, RES.RECOVERING, RES.MIGRATING, RES.IN_PROGRESS, RES.RECOVERY_WAITING, RES.DROPPING_REF];

describe('ASSERT_JOINED, CANCEL_JOIN (we send): only to whom we are joining', () => {
  it('CANCEL_JOIN goes to those that said OK, and to no other', () => {
    const it = new Scripted(1, [1, 2, 3, 4]);
    it.domain.join(() => {});
    it.next(TYPE.QUERY_JOIN, 2).answer(OK);
    it.next(TYPE.QUERY_JOIN, 3).answer(joinReply(2));
    it.next(TYPE.QUERY_JOIN, 4).answer(joinReply(0));
    expect(it.open.map(({ type, to }) => [type, to])).toEqual([[TYPE.CANCEL_JOIN, 2]]);
  });

  it('the living change during the queries: all is taken back, and asked again', () => {
    const it = new Scripted(1, [1, 2, 3]);
    it.domain.join(() => {});
    it.next(TYPE.QUERY_JOIN, 2).answer(OK);
    it.up(4);
    it.next(TYPE.QUERY_JOIN, 3).answer(OK);
    it.next(TYPE.CANCEL_JOIN, 2).answer(0);
    it.next(TYPE.CANCEL_JOIN, 3).answer(0);
    it.time.run(700);
    expect([...it.next(TYPE.QUERY_JOIN, 2).message.live]).toEqual([1, 2, 3, 4]);
  });

  it('members are not told of a live node that does not have the domain and may have died as a member just now', () => {
    const it = new Scripted(1, [1, 2, 3, 4], undefined, { recent: () => new NodeMap([3, 4]) });
    const told: unknown[] = [];
    it.domain.join((error) => told.push(error));
    expect([...it.next(TYPE.QUERY_JOIN, 2).message.live]).toEqual([1, 2, 3, 4]);
    it.next(TYPE.QUERY_JOIN, 2).answer(OK);
    it.next(TYPE.QUERY_JOIN, 3).answer(joinReply(2));
    expect([...it.next(TYPE.QUERY_JOIN, 4).message.live]).toEqual([1, 2, 4]);
    it.next(TYPE.QUERY_JOIN, 4).answer(OK);
    it.next(TYPE.CANCEL_JOIN, 2).answer(0);
    it.next(TYPE.CANCEL_JOIN, 4).answer(0);
    // At once. A member that takes node 3 for its old self now refuses.
    const second = it.next(TYPE.QUERY_JOIN, 2);
    expect([...second.message.live]).toEqual([1, 2, 4]);
    second.answer(joinReply(0));
    it.time.run(700);
    // It has noticed.
    it.next(TYPE.QUERY_JOIN, 2).answer(OK);
    it.next(TYPE.QUERY_JOIN, 3).answer(joinReply(2));
    it.next(TYPE.QUERY_JOIN, 4).answer(OK);
    it.next(TYPE.CANCEL_JOIN, 2).answer(0);
    it.next(TYPE.CANCEL_JOIN, 4).answer(0);
    it.next(TYPE.QUERY_JOIN, 2).answer(OK);
    it.next(TYPE.QUERY_JOIN, 3).answer(joinReply(2));
    it.next(TYPE.QUERY_JOIN, 4).answer(OK);
    it.answerAll({ [TYPE.QUERY_NODEINFO]: 0, [TYPE.QUERY_REGION]: 0, [TYPE.ASSERT_JOINED]: 0 });
    expect(told).toEqual([undefined]);
    expect([...it.core.domain]).toEqual([1, 2, 4]);
  });

  it('ASSERT_JOINED goes to those that said OK, is repeated while they recover, and then we are in', () => {
    const it = new Scripted(1, [1, 2, 3]);
    const told: unknown[] = [];
    it.domain.join((error) => told.push(error));
    it.next(TYPE.QUERY_JOIN, 2).answer(OK);
    it.next(TYPE.QUERY_JOIN, 3).answer(joinReply(2));
    it.answerAll({ [TYPE.QUERY_NODEINFO]: 0, [TYPE.QUERY_REGION]: 0 });
    it.next(TYPE.ASSERT_JOINED, 2).answer(-11);
    expect(it.open).toEqual([]);
    it.time.run(200);
    it.next(TYPE.ASSERT_JOINED, 2).answer(0);
    expect(told).toEqual([undefined]);
    expect([...it.core.domain]).toEqual([1, 2]);
    expect(it.said.filter(({ to, type }) => to === 3 && type !== TYPE.QUERY_JOIN)).toEqual([]);
  });

  it.each([[TYPE.QUERY_NODEINFO, 'DLM_JOIN_NODES'], [TYPE.QUERY_REGION, 'DLM_JOIN_REGIONS']])('another configuration (%i) ends the attempt with CANCEL_JOIN', (type, code) => {
    const it = new Scripted(1, [1, 2]);
    const told: unknown[] = [];
    it.domain.join((error) => told.push(error));
    it.next(TYPE.QUERY_JOIN).answer(OK);
    if (type === TYPE.QUERY_REGION) it.next(TYPE.QUERY_NODEINFO).answer(0);
    it.next(type).answer(-22);
    it.next(TYPE.CANCEL_JOIN, 2).answer(0);
    expect(told).toMatchObject([{ code }]);
  });

  it('an older protocol is adopted, another major one refused', () => {
    const it = new Scripted(1, [1, 2]);
    it.domain.join(() => {});
    it.next(TYPE.QUERY_JOIN).answer(joinReply(1, 0, 0));
    it.next(TYPE.ASSERT_JOINED).answer(0); // 1.0 has no QUERY_NODEINFO and QUERY_REGION
    const ask = { node: 3, domain: 'D', dlmMajor: 1, dlmMinor: 3, fsMajor: 1, fsMinor: 0, live: new NodeMap(members) };
    it.up(3);
    expect(it.receive(3, TYPE.QUERY_JOIN, { ...ask, dlmMajor: 2 })).toBe(joinReply(3));
    expect(it.receive(3, TYPE.QUERY_JOIN, ask)).toBe(joinReply(1, 0, 0));
  });
});

describe('MASTER_REQUEST reply: 0 to 3', () => {
  it.each(states)('state %i', (state) => {
    for (const owner of [...members, 255]) {
      const it = new Scripted(1, members, members);
      resource(it, owner, state);
      expect([0, 1, 2, 3]).toContain(it.receive(2, TYPE.MASTER_REQUEST, { node: 2, name, flags: 0 }));
    }
  });

  it('before the domain is joined', () => {
    const it = new Scripted(1, members);
    it.domain.join(() => {});
    expect(it.receive(2, TYPE.MASTER_REQUEST, { node: 2, name, flags: 0 })).toBe(0);
  });
});

describe('ASSERT_MASTER reply: never negative', () => {
  it.each(states)('state %i', (state) => {
    for (const owner of [...members, 255]) {
      for (const flags of [0, ...Object.values(ASSERT_FLAG)]) {
        const it = new Scripted(1, members, members);
        resource(it, owner, state);
        expect([0, 2]).toContain(it.receive(2, TYPE.ASSERT_MASTER, { node: 2, name, flags }));
      }
    }
  });

  it('what another owns stays with it', () => {
    const it = new Scripted(1, members, members);
    const res = resource(it, 3);
    expect(it.receive(2, TYPE.ASSERT_MASTER, { node: 2, name, flags: 0 })).toBe(0);
    expect(res.owner).toBe(3);
  });
});

describe('CREATE, CONVERT, UNLOCK replies: never REJECTED, only what requesters handle', () => {
  const allowed = [STATUS.NORMAL, STATUS.CANCELGRANT, STATUS.IVLOCKID, STATUS.NOTQUEUED, STATUS.FORWARD, STATUS.RECOVERING, STATUS.MIGRATING];
  const cookie = (2n << 56n) | 1n;

  it.each(states)('state %i', (state) => {
    for (const owner of [...members, 255]) {
      const it = new Scripted(1, members, members);
      resource(it, owner, state, owner === 1 ? [[2, PR]] : []);
      expect(allowed).toContain(it.receive(2, TYPE.CREATE_LOCK, { node: 2, cookie: cookie + 7n, flags: FLAG.NOQUEUE, mode: EX, name }));
      expect(allowed).toContain(it.receive(2, TYPE.CONVERT_LOCK, { node: 2, cookie, flags: FLAG.CONVERT, mode: EX, name }));
      expect(allowed).toContain(it.receive(2, TYPE.UNLOCK_LOCK, { node: 2, cookie, flags: FLAG.CANCEL, name }));
      expect(allowed).toContain(it.receive(2, TYPE.UNLOCK_LOCK, { node: 2, cookie, flags: 0, name }));
    }
  });

  it('before the domain is joined: FORWARD', () => {
    const it = new Scripted(1, members);
    it.domain.join(() => {});
    expect(it.receive(2, TYPE.CREATE_LOCK, { node: 2, cookie, flags: 0, mode: EX, name })).toBe(STATUS.FORWARD);
  });
});

describe('PROXY_AST', () => {
  it('reply: never RECOVERING or MIGRATING', () => {
    for (const state of states) {
      for (const type of [AST, BAST]) {
        const it = new Scripted(1, members, members);
        resource(it, 2, state, [[1, NL]]);
        expect([STATUS.NORMAL, STATUS.IVLOCKID]).toContain(it.receive(2, TYPE.PROXY_AST, { node: 2, cookie: (1n << 56n) | 1n, flags: 0, type, blocked: EX, name }));
      }
    }
  });

  it('we send a value block only to who asked for it, a BAST only for PR and EX', () => {
    const it = new Scripted(1, members, members);
    const res = resource(it, 1);
    res.lvb = new Uint8Array(64).fill(7);
    const ask = { node: 2, cookie: (2n << 56n) | 1n, mode: PR, name };
    it.receive(2, TYPE.CREATE_LOCK, { ...ask, flags: 0 });
    expect(it.next(TYPE.PROXY_AST).message).toMatchObject({ flags: 0, type: AST });
    it.next(TYPE.PROXY_AST).answer(0);
    it.receive(3, TYPE.CREATE_LOCK, { ...ask, node: 3, cookie: (3n << 56n) | 1n, flags: FLAG.VALBLK | FLAG.GET_LVB });
    const { message } = it.next(TYPE.PROXY_AST, 3);
    expect(message.flags).toBe(FLAG.GET_LVB);
    expect(message.lvb?.[0]).toBe(7);
    it.next(TYPE.PROXY_AST, 3).answer(0);
    it.receive(3, TYPE.CONVERT_LOCK, { node: 3, cookie: (3n << 56n) | 1n, flags: FLAG.CONVERT, mode: EX, name });
    expect(it.next(TYPE.PROXY_AST, 2).message).toMatchObject({ type: BAST, blocked: EX });
  });
});

describe('CONVERT_LOCK (we send)', () => {
  it('PUT or GET, not both, and one conversion of a lock at a time', () => {
    const it = new Scripted(1, members, members);
    const lock = it.lock('a', name, EX, { valueBlock: true });
    it.next(TYPE.MASTER_REQUEST, 2).answer(1);
    expect(it.next(TYPE.CREATE_LOCK, 2).message.flags).toBe(FLAG.VALBLK | FLAG.GET_LVB);
    it.receive(2, TYPE.PROXY_AST, { node: 2, cookie: lock.cookie, flags: FLAG.GET_LVB, type: AST, blocked: 0, name, lvb: new Uint8Array(64).fill(9) });
    expect(it.told).toEqual(['a granted 9']);
    lock.convert(NL, { lvb: new Uint8Array(64).fill(5) });
    // The first request has no status yet: the second waits for it.
    expect(it.open.map(({ type }) => type)).toEqual([TYPE.CREATE_LOCK]);
    it.next(TYPE.CREATE_LOCK).answer(0);
    const { message } = it.next(TYPE.CONVERT_LOCK);
    expect(message.flags >>> 0).toBe(FLAG.VALBLK | FLAG.CONVERT | FLAG.PUT_LVB);
    expect(message.lvb?.[0]).toBe(5);
    expect(() => lock.convert(PR)).toThrow(/under way/);
  });
});

describe('MASTER_REQUERY reply: 0 to 255', () => {
  it.each(states)('state %i', (state) => {
    for (const owner of [...members, 255]) {
      const it = new Scripted(1, members, members);
      resource(it, owner, state);
      const status = it.receive(2, TYPE.MASTER_REQUERY, { node: 2, name });
      expect(status).toBeGreaterThanOrEqual(0);
      expect(status).toBeLessThanOrEqual(255);
    }
  });
});

describe('MIG_LOCKRES', () => {
  it('we send no BAST that is due, to a target that has a lock and stays', () => {
    const it = new Scripted(1, members, members);
    const res = resource(it, 1, 0, [[2, PR], [3, NL], [3, EX, 'blocked']]);
    res.granted[0].highestBlocked = EX;
    it.core.exiting.add(2);
    it.domain.leave(() => {});
    it.answerAll({ [TYPE.BEGIN_EXIT_DOMAIN]: 0 });
    const { message, to } = it.next(TYPE.MIG_LOCKRES);
    expect(to).toBe(3);
    expect(message).toMatchObject({ flags: MRES.MIGRATION | MRES.ALL_DONE, total: 3, master: 1 });
    expect(message.locks.map(({ highestBlocked }) => highestBlocked)).toEqual([IV, IV, IV]);
  });

  it('240 locks in a message, the last one says so', () => {
    const it = new Scripted(1, members, members);
    resource(it, 1, 0, Array.from({ length: 500 }, () => [2, NL] as const));
    it.domain.leave(() => {});
    it.answerAll({ [TYPE.BEGIN_EXIT_DOMAIN]: 0 });
    const sent = [0, 1, 2].map(() => {
      const { message } = it.next(TYPE.MIG_LOCKRES);
      it.next(TYPE.MIG_LOCKRES).answer(0);
      return [message.locks.length, message.total, message.flags, message.cookie];
    });
    expect(sent).toEqual([[240, 500, MRES.MIGRATION, 1n], [240, 500, MRES.MIGRATION, 1n], [20, 500, MRES.MIGRATION | MRES.ALL_DONE, 1n]]);
  });

  it('a reference alone is one dummy', () => {
    const it = new Scripted(1, members, members);
    resource(it, 1).refmap.add(3);
    it.domain.leave(() => {});
    it.answerAll({ [TYPE.BEGIN_EXIT_DOMAIN]: 0 });
    const { message } = it.next(TYPE.MIG_LOCKRES, 3);
    expect(message.total).toBe(0);
    expect(message.locks).toEqual([{ cookie: 0n, list: 2, flags: 0, mode: IV, convertMode: IV, highestBlocked: IV, node: 1 }]);
  });

  it('reply: never -EFAULT; a target that can not take it makes the sender look for another', () => {
    const message = { master: 2, name, flags: MRES.MIGRATION | MRES.ALL_DONE, total: 0, cookie: 0n, lvb: new Uint8Array(64), locks: [] };
    for (const state of states) {
      const it = new Scripted(1, members, members);
      resource(it, 2, state);
      expect([0, -22]).toContain(it.receive(2, TYPE.MIG_LOCKRES, message));
    }
    const it = new Scripted(1, members, members);
    expect(it.receive(2, TYPE.MIG_LOCKRES, { ...message, flags: 0 })).toBe(-22);
    expect(it.receive(2, TYPE.MIG_LOCKRES, { ...message, master: 255 })).toBe(-22);
  });
});

describe('DEREF reply: never -ENOMEM', () => {
  it.each(states)('state %i', (state) => {
    const it = new Scripted(1, members, members);
    expect(it.receive(2, TYPE.DEREF_LOCKRES, { node: 2, name })).toBe(-22);
    resource(it, 1, state).refmap.add(2);
    expect([0, 1]).toContain(it.receive(2, TYPE.DEREF_LOCKRES, { node: 2, name }));
  });
});

describe('recovery', () => {
  it('a member sends its own locks and RECO_DATA_DONE when it is asked for this dead node, and not before', () => {
    const it = new Scripted(1, members, members);
    it.core.migrateDone = true; // a member only
    resource(it, 3, 0, [[1, PR]]);
    expect(it.receive(2, TYPE.LOCK_REQUEST, { node: 2, dead: 3 })).toBe(-12);
    expect(it.receive(2, TYPE.BEGIN_RECO, { node: 2, dead: 3 })).toBe(0);
    expect(it.evicted).toEqual([3]);
    expect(it.said).toEqual([]);
    expect(it.receive(2, TYPE.LOCK_REQUEST, { node: 2, dead: 3 })).toBe(0);
    expect(it.next(TYPE.MIG_LOCKRES).message).toMatchObject({ master: 3, flags: MRES.RECOVERY | MRES.ALL_DONE, locks: [{ node: 1 }] });
    it.next(TYPE.MIG_LOCKRES).answer(0);
    expect(it.next(TYPE.RECO_DATA_DONE).message.dead).toBe(3);
    it.next(TYPE.RECO_DATA_DONE).answer(0);
    expect(it.receive(2, TYPE.FINALIZE_RECO, { node: 2, dead: 3, flags: 0 })).toBe(0);
    expect(it.core.resources.get(name)?.owner).toBe(2);
    expect(it.receive(2, TYPE.BEGIN_RECO, { node: 2, dead: 3 })).toBe(-11);
    expect(it.receive(2, TYPE.FINALIZE_RECO, { node: 2, dead: 3, flags: 1 })).toBe(0);
    it.down(3);
    expect(it.core.recovery.lowest).toBeUndefined();
  });

  it('FINALIZE_RECO (we send): stage 1 once to each, then stage 2 to those that took it', () => {
    const it = new Scripted(1, [1, 2, 3, 4], [1, 2, 3, 4]);
    it.down(4);
    it.answerAll({ [TYPE.MASTER_REQUERY]: 255, [TYPE.MASTER_REQUEST]: 0, [TYPE.ASSERT_MASTER]: 0 });
    it.next(TYPE.BEGIN_RECO, 2).answer(-11); // still in the last one: asked again
    it.time.run(100);
    it.answerAll({ [TYPE.BEGIN_RECO]: 0 });
    it.next(TYPE.LOCK_REQUEST, 2).answer(-12); // and so is this
    it.time.run(100);
    it.answerAll({ [TYPE.LOCK_REQUEST]: 0 });
    for (const node of [2, 3]) expect(it.receive(node, TYPE.RECO_DATA_DONE, { node, dead: 4 })).toBe(0);
    it.next(TYPE.FINALIZE_RECO, 2).answer(0);
    it.down(3);
    expect(it.next(TYPE.FINALIZE_RECO, 2).message.flags).toBe(1);
    it.next(TYPE.FINALIZE_RECO, 2).answer(0);
    const stages = it.said.filter(({ type, to }) => type === TYPE.FINALIZE_RECO && to === 3).map(({ payload }) => payload[2]);
    expect(stages).toEqual([0]);
  });
});

describe('fault injection (checklist 11)', () => {
  const setup = () => {
    const it = new Scripted(1, members, members);
    const lock = it.lock('a', name, PR);
    it.next(TYPE.MASTER_REQUEST, 2).answer(1);
    return { it, lock };
  };
  const ast = (it: Scripted, cookie: bigint, from = 2) => it.receive(from, TYPE.PROXY_AST, { node: from, cookie, flags: 0, type: AST, blocked: 0, name });

  it('the AST comes before the status', () => {
    const { it, lock } = setup();
    ast(it, lock.cookie);
    it.next(TYPE.CREATE_LOCK).answer(0);
    expect(it.told).toEqual(['a granted']);
  });

  it.each([STATUS.FORWARD, STATUS.RECOVERING, STATUS.MIGRATING])('status %i: asked again after 100 ms, with the same cookie', (status) => {
    const { it, lock } = setup();
    it.next(TYPE.CREATE_LOCK).answer(status);
    it.time.run(99);
    expect(it.open).toEqual([]);
    it.time.run(2);
    expect(it.next(TYPE.CREATE_LOCK).message.cookie).toBe(lock.cookie);
    it.next(TYPE.CREATE_LOCK).answer(0);
    ast(it, lock.cookie);
    lock.convert(EX);
    it.next(TYPE.CONVERT_LOCK).answer(status);
    it.time.run(101);
    it.next(TYPE.CONVERT_LOCK).answer(0);
    ast(it, lock.cookie);
    expect(it.told).toEqual(['a granted', 'a granted']);
    lock.unlock();
    it.next(TYPE.UNLOCK_LOCK).answer(status);
    it.time.run(51);
    it.next(TYPE.UNLOCK_LOCK).answer(0);
    expect(it.core.resources.get(name)?.hasLocks).toBe(false);
  });

  it('duplicate and late BASTs, ASTs for what has been granted, and for what is not known', () => {
    const { it, lock } = setup();
    it.next(TYPE.CREATE_LOCK).answer(0);
    for (let i = 0; i < 3; i++) ast(it, lock.cookie);
    for (let i = 0; i < 3; i++) it.receive(2, TYPE.PROXY_AST, { node: 2, cookie: lock.cookie, flags: 0, type: BAST, blocked: EX, name });
    expect(ast(it, 77n)).toBe(STATUS.NORMAL);
    expect(it.told).toEqual(['a granted', 'a bast 5', 'a bast 5', 'a bast 5']);
  });

  it('a cancel that comes in time, and one that comes too late', () => {
    const { it, lock } = setup();
    it.next(TYPE.CREATE_LOCK).answer(0);
    ast(it, lock.cookie);
    lock.convert(EX);
    it.next(TYPE.CONVERT_LOCK).answer(0);
    lock.cancel();
    expect(it.next(TYPE.UNLOCK_LOCK).message.flags).toBe(FLAG.CANCEL);
    it.next(TYPE.UNLOCK_LOCK).answer(0);
    lock.convert(EX);
    it.next(TYPE.CONVERT_LOCK).answer(0);
    lock.cancel();
    it.next(TYPE.UNLOCK_LOCK).answer(STATUS.CANCELGRANT);
    ast(it, lock.cookie);
    expect(it.told).toEqual(['a granted', 'a cancelled', 'a granted']);
  });

  it('the owner dies with a conversion under way: it is sent to the next one', () => {
    const { it, lock } = setup();
    it.next(TYPE.CREATE_LOCK).answer(0);
    ast(it, lock.cookie);
    lock.convert(EX);
    it.next(TYPE.CONVERT_LOCK).answer(0); // queued there
    it.core.migrateDone = true; // node 3 recovers
    it.down(2);
    it.receive(3, TYPE.BEGIN_RECO, { node: 3, dead: 2 });
    it.receive(3, TYPE.LOCK_REQUEST, { node: 3, dead: 2 });
    expect(it.next(TYPE.MIG_LOCKRES).message.locks).toMatchObject([{ list: 1, mode: PR, convertMode: EX, node: 1 }]);
    it.answerAll({ [TYPE.MIG_LOCKRES]: 0, [TYPE.RECO_DATA_DONE]: 0 });
    it.receive(3, TYPE.FINALIZE_RECO, { node: 3, dead: 2, flags: 0 });
    it.receive(3, TYPE.FINALIZE_RECO, { node: 3, dead: 2, flags: 1 });
    ast(it, lock.cookie, 3);
    expect(it.told).toEqual(['a granted', 'a granted']);
    expect(it.evicted).toContain(2);
  });

  it('a node that speaks for another, or nonsense, costs itself the connection and changes nothing', () => {
    const it = new Scripted(1, members, members);
    expect(() => it.receive(2, TYPE.MASTER_REQUEST, { node: 3, name, flags: 0 })).toThrow(/speaks for node 3/);
    expect(it.core.mles.size).toBe(0);
  });
});
