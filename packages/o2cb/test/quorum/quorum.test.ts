/** The quorum's decision for every cluster of up to six nodes and every partition of it, and what holds a decision back. */
import { describe, expect, it } from 'vitest';
import { Quorum, type QuorumVote, verdict } from '../../src/quorum/quorum.js';

/** A scheduler whose timers run by hand. */
class Manual {
  readonly #due: (() => void)[] = [];
  now(): number {
    return 0;
  }
  after(_ms: number, fn: () => void): () => void {
    this.#due.push(fn);
    return () => undefined;
  }
  run(): void {
    for (const fn of this.#due.splice(0)) fn();
  }
}

function quorumOf(local: number) {
  const scheduler = new Manual();
  const decisions: (string | QuorumVote)[] = [];
  const quorum = new Quorum(local, scheduler, (_reason, vote) => decisions.push(`lost ${vote.connected} of ${vote.heartbeating}`), (vote) => decisions.push(vote));
  const settle = (): (string | QuorumVote)[] => {
    scheduler.run();
    return decisions.splice(0);
  };
  return { quorum, settle };
}

describe('the decision', () => {
  // Linux 6.1 fs/ocfs2/cluster/quorum.c:o2quo_make_decision, written out: [heartbeating, connected] that stay in any case, and in case the lowest is reachable.
  const STAYS = new Set(['2 2', '3 2', '3 3', '4 3', '4 4', '5 3', '5 4', '5 5', '6 4', '6 5', '6 6']);
  const STAYS_WITH_LOWEST = new Set(['2 1', '4 2', '6 3']);

  it('is the table of all counts up to six nodes', () => {
    for (let heartbeating = 2; heartbeating <= 6; heartbeating++) {
      for (let connected = 0; connected <= heartbeating; connected++) {
        for (const lowestReachable of [true, false]) {
          const case_ = `${heartbeating} ${connected}`;
          const stays = STAYS.has(case_) || (lowestReachable && STAYS_WITH_LOWEST.has(case_));
          expect(verdict({ heartbeating, connected, lowest: 0, lowestReachable }) === undefined, `${case_} ${lowestReachable}`).toBe(stays);
        }
      }
    }
  });

  it('leaves exactly one side of every clean split alive, and nobody else decides', () => {
    for (let nodes = 2; nodes <= 6; nodes++) {
      for (let side = 1; side < 2 ** nodes - 1; side++) {
        const alive: boolean[] = [];
        for (let local = 0; local < nodes; local++) {
          const { quorum, settle } = quorumOf(local);
          const together = (node: number) => ((side >> node) & 1) === ((side >> local) & 1);
          for (let node = 0; node < nodes; node++) {
            quorum.connUp(node);
            quorum.nodeUp(node);
          }
          for (let node = 0; node < nodes; node++) if (!together(node)) quorum.connError(node);
          expect(settle()).toEqual([]);
          const others = Array.from({ length: nodes }, (_, node) => node).filter((node) => !together(node));
          for (const [i, node] of others.entries()) {
            expect(settle(), 'nothing is decided while another is held').toEqual([]);
            quorum.stillUp(node);
            if (i < others.length - 1) expect(settle()).toEqual([]);
          }
          const [decision] = settle();
          alive[local] = typeof decision !== 'string';
        }
        const sides = new Set(alive.flatMap((lives, node) => (lives ? [(side >> node) & 1] : [])));
        expect(sides.size, `split ${side.toString(2)} of ${nodes}`).toBe(1);
        const [winner] = sides;
        expect(alive).toEqual(alive.map((_, node) => ((side >> node) & 1) === winner));
      }
    }
  });
});

describe('what holds it back', () => {
  it('is a node whose fate is open: it dies, and nothing is decided', () => {
    const { quorum, settle } = quorumOf(1);
    for (const node of [1, 2, 3]) {
      quorum.nodeUp(node);
      quorum.connUp(node);
    }
    quorum.connError(2);
    quorum.connError(3);
    quorum.stillUp(2);
    expect(settle()).toEqual([]);
    quorum.nodeDown(3);
    // Two beat, one of them reached, and that is the lowest.
    expect(settle()).toEqual([{ heartbeating: 2, connected: 1, lowest: 1, lowestReachable: true }]);
  });

  it('is not a node that is heard again in time', () => {
    const { quorum, settle } = quorumOf(2);
    for (const node of [1, 2]) {
      quorum.nodeUp(node);
      quorum.connUp(node);
    }
    quorum.connError(1);
    quorum.connError(1);
    quorum.connUp(1);
    expect(settle()).toEqual([]);
    quorum.connError(1);
    quorum.stillUp(1);
    expect(settle()).toEqual(['lost 1 of 2']);
  });

  it('is a node that beats and was never reached, and one that is reached and does not beat yet', () => {
    const { quorum, settle } = quorumOf(1);
    quorum.connUp(1);
    quorum.nodeUp(1);
    quorum.connUp(4);
    quorum.nodeUp(3);
    quorum.nodeUp(2);
    quorum.stillUp(2);
    expect(settle()).toEqual([]);
    quorum.nodeUp(4);
    expect(settle()).toEqual([]);
    quorum.stillUp(3);
    expect(settle()).toEqual([{ heartbeating: 4, connected: 2, lowest: 1, lowestReachable: true }]);
  });

  it('a node alone, or one that no longer beats, decides nothing', () => {
    for (const local of [1, 3]) {
      const { quorum, settle } = quorumOf(local);
      quorum.nodeUp(1);
      quorum.connUp(1);
      quorum.connUp(2);
      quorum.connError(2);
      quorum.nodeUp(2);
      quorum.stillUp(2);
      if (local === 1) quorum.nodeDown(2);
      expect(settle()).toEqual([]);
    }
  });
});
