/** Who owns a name, when the owner dies before all who wait to hear of it have been told. */
import { expect, test } from 'vitest';
import { RES } from '../../src/dlm/resource.js';
import { EX, type Level, NL, PR } from '../../src/dlm/status.js';
import { Bench, type BenchNode } from './support/bench.js';

const NAME = 'O'.padEnd(31, '0');

/** A lock of a node, given way whenever it is asked to, and how often it was granted. */
function take(node: BenchNode, level: Level): { granted: number; lock: ReturnType<BenchNode['domain']['lock']> } {
  const mine = {
    granted: 0,
    lock: node.domain.lock(NAME, level, { ast: () => void mine.granted++, bast: () => mine.lock.convert(NL), failed: (error) => { throw error; } }),
  };
  return mine;
}

test('an owner answers one node, and dies before it can tell the others, who wait for that node to say that it is the owner', () => {
  const bench = new Bench({ seed: 5, nodes: 4 });
  const nodes = bench.start([0, 1, 2, 3]);
  const [, , owner, asker] = nodes;
  const owned = take(owner, PR);
  bench.until('the owner has it', () => owned.granted === 1);
  bench.time.run(1000);
  bench.lost = (from, to) => from === owner && to !== asker.number;
  const asked = take(asker, PR);
  bench.until('the one that asks has it', () => asked.granted === 1);
  asked.lock.unlock();
  bench.until('it is about to forget the name', () => asker.domain.core.resources.get(NAME)?.has(RES.DROPPING_REF) === true);
  bench.kill(owner);
  bench.lost = undefined;
  const late = nodes.slice(0, 2).map((node) => take(node, EX));
  bench.until('those that waited have it, one after the other', () => late.every(({ granted }) => granted > 0), 60_000);
  expect(bench.panicked).toEqual([]);
});
