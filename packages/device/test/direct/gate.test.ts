import { describe, expect, it } from 'vitest';
import { Fence } from '../../src/direct/fence.js';
import { EPOCH, Gate, type GateCells, IN_FLIGHT, NO_WRITES } from '../../src/direct/gate.js';
import { type Model, type Program, type Steps, explore } from '../support/explore.js';

/** The gate over modelled cells; its own memory is not used. */
const gateOn = (cells: GateCells): Gate => new Gate({ cells: new SharedArrayBuffer(64) }, cells);
type Enter = (steps: Steps, epoch: number, write: boolean) => boolean;
const realEnter: Enter = (steps, epoch, write) => gateOn(steps).enter(epoch, 0, write);

/** facts: `map`, epoch of the map the owner hands out, -1 while it recalls; `io`, epochs of the I/O in flight; `safe`, older epochs are over. */
const fresh = (): Model => ({ cells: [0, 0, 0, 0], facts: { map: 0, io: [], safe: 0, fenced: 0 } });

/** A worker: takes the map there is, asks the gate, does its I/O in two steps, leaves. */
function worker(requests: number, { enter = realEnter, write = false }: { enter?: Enter; write?: boolean } = {}): Program {
  return (steps) => {
    for (let i = 0; i < requests; i++) {
      const epoch = steps.act((facts) => facts.map as number);
      if (epoch < 0 || !enter(steps, epoch, write)) continue; // parked
      steps.act((facts) => {
        if (epoch < (facts.safe as number)) throw new Error(`I/O begins on a map of epoch ${epoch} after its recall`);
        if (write && facts.fenced) throw new Error('a write begins after writes were forbidden and awaited');
        (facts.io as number[]).push(epoch);
        return 0;
      });
      steps.act((facts) => {
        const io = facts.io as number[];
        io.splice(io.indexOf(epoch), 1);
        return 0;
      });
      gateOn(steps).leave();
    }
  };
}

/** The owner: withdraws the map, recalls, may then change the mapping, hands out a new map. */
function owner(recalls: number): Program {
  return async (steps) => {
    for (let i = 0; i < recalls; i++) {
      steps.act((facts) => (facts.map = -1));
      const epoch = await gateOn(steps).recall();
      steps.act((facts) => {
        if ((facts.io as number[]).some((of) => of < epoch)) throw new Error(`recall to epoch ${epoch} resolved with old I/O in flight`);
        facts.safe = epoch;
        return (facts.map = epoch);
      });
    }
  };
}

const fencing: Program = async (steps) => {
  gateOn(steps).forbidWrites(true);
  await gateOn(steps).idle();
  steps.act((facts) => {
    if ((facts.io as number[]).length > 0) throw new Error('writes in flight after they were forbidden and awaited');
    return (facts.fenced = 1);
  });
};

describe('Gate, in all interleavings', () => {
  it('no I/O begins or goes on with an old map once recall has resolved, and every recall resolves', async () => {
    expect(await explore(fresh(), [owner(1), worker(1), worker(1)])).toBeGreaterThan(1000);
    expect(await explore(fresh(), [owner(2), worker(2)])).toBeGreaterThan(500);
  });

  it('no write begins or goes on once writes are forbidden and awaited', async () => {
    expect(await explore(fresh(), [fencing, worker(1, { write: true }), worker(1, { write: true })])).toBeGreaterThan(500);
  });

  it('finds the fault in a gate that tests before it publishes', async () => {
    const hasty: Enter = (steps, epoch, write) => {
      if (steps.load(EPOCH) !== epoch || (write && steps.load(NO_WRITES) !== 0)) return false;
      steps.add(IN_FLIGHT, 1);
      return true;
    };
    await expect(explore(fresh(), [owner(1), worker(1, { enter: hasty })])).rejects.toThrow(/after its recall|old I\/O in flight/);
    await expect(explore(fresh(), [fencing, worker(1, { enter: hasty, write: true })])).rejects.toThrow(/forbidden and awaited/);
  });

  it('finds the lost wake-up of a gate that leaves without notifying', async () => {
    const silent: Program = (steps) => {
      const epoch = steps.act((facts) => facts.map as number);
      if (realEnter(steps, epoch, false)) steps.add(IN_FLIGHT, -1);
    };
    await expect(explore(fresh(), [owner(1), silent])).rejects.toThrow(/deadlock/);
  });
});

describe('Gate, in shared memory', () => {
  it('lets requests of the present epoch in, before the deadline, and no others', () => {
    const fence = new Fence(undefined, Number.POSITIVE_INFINITY);
    const gate = Gate.under(fence);
    const remote = new Gate(gate.memory);
    expect(remote.enter(0, 1e9, true)).toBe(true);
    remote.leave();
    expect(remote.enter(1, 0, false)).toBe(false);
    fence.setDeadline(100, Number.POSITIVE_INFINITY);
    expect(remote.enter(0, 99.9, false)).toBe(true);
    remote.leave();
    expect(remote.enter(0, 100, false)).toBe(false);
    fence.setDeadline(0, Number.POSITIVE_INFINITY);
    expect(new Gate(gate.memory).enter(0, 0, false)).toBe(false); // attaching opens nothing
    fence.setDeadline(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
    gate.forbidWrites(true);
    expect(remote.enter(0, 0, true)).toBe(false);
    expect(remote.enter(0, 0, false)).toBe(true);
    remote.leave();
    gate.forbidWrites(false);
    expect(remote.enter(0, 0, true)).toBe(true);
  });

  it('recall waits for what is in flight, and for nothing else', async () => {
    const gate = new Gate();
    expect(await gate.recall()).toBe(1);
    expect(gate.epoch).toBe(1);
    expect(gate.enter(1, 0, true)).toBe(true);
    expect(gate.enter(1, 0, false)).toBe(true);
    let recalled = false;
    const recall = gate.recall().then((epoch) => {
      recalled = true;
      return epoch;
    });
    expect(gate.enter(1, 0, false)).toBe(false);
    gate.leave();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(recalled).toBe(false);
    gate.leave();
    expect(await recall).toBe(2);
    expect(gate.enter(2, 0, false)).toBe(true);
  });
});
