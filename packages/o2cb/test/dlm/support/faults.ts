/** Scenarios of the protocol in which somebody dies at a chosen step of a message. */
import type { BenchNode } from './bench.js';
import { Run } from './chaos.js';

/** What four nodes with locks between them are doing when one dies. */
export const scenarios: Record<string, { seed: number; begin: (run: Run) => void }> = {
  'nodes lock': { seed: 11, begin: (run) => { for (let i = 0; i < 12; i++) run.step(); } },
  'a node leaves': { seed: 12, begin: (run) => run.leave(run.bench.members()[1]) },
  'two nodes leave': { seed: 13, begin: (run) => { for (const node of run.bench.members().slice(1, 3)) run.leave(node); } },
  'a node joins': { seed: 14, begin: (run) => run.join(4) },
  'two nodes join': { seed: 15, begin: (run) => { run.join(4); run.join(5); } },
  'a dead node is recovered': { seed: 16, begin: (run) => run.bench.kill(run.bench.members()[1]) },
  'a dead node is recovered while one leaves': { seed: 17, begin: (run) => { run.bench.kill(run.bench.members()[0]); run.leave(run.bench.members()[1]); } },
  'two dead nodes are recovered': { seed: 18, begin: (run) => { run.bench.kill(run.bench.members()[0]); run.bench.kill(run.bench.members()[1]); } },
};

type Victim = 'sender' | 'receiver';

/** Runs a scenario in which, at the `at`th step of a message, one of its two nodes dies. */
export function fault(name: string, at: number, victim: Victim, watch: (run: Run) => void = () => {}): { steps: number; where: string; wrong: string[] } {
  const { seed, begin } = scenarios[name];
  const run = new Run({ seed, nodes: 6, names: 4, steps: 0 });
  const { bench } = run;
  for (let number = 0; number < 4; number++) run.join(number);
  bench.until('all join', () => bench.members().length === 4);
  for (let i = 0; i < 60; i++) {
    run.step();
    bench.time.run(bench.dice.below(25));
  }
  watch(run);
  let steps = 0;
  let where = '';
  bench.atMessage = (type, from, to, step) => {
    if (steps++ !== at) return;
    const node: BenchNode = victim === 'sender' ? from : to;
    where = `message ${type} ${step}: ${node.name} dies, the ${victim}`;
    bench.kill(node);
  };
  begin(run);
  let wrong: string[];
  try {
    bench.time.run(4_000);
    wrong = run.rest();
  } catch (error) {
    wrong = [String(error)];
  }
  return { steps, where, wrong };
}
