/**
 * A state-space explorer: runs programs that share atomic cells in all interleavings of their steps.
 *
 * The programs are real code on `GateCells`. JavaScript cannot stop a function in the middle, so a program is run again from its
 * start for every step: the results of its earlier steps are replayed from a log, the next step is performed on the model,
 * and the one after that stops the run by an exception. Programs must therefore depend on nothing but results of steps.
 * States already seen (model and logs) are not visited again.
 */
import type { GateCells } from '../../src/direct/gate.js';

/** Shared memory, and whatever the invariants need to know, as plain data. */
export interface Model {
  cells: number[];
  facts: Record<string, number | number[]>;
}

/** What a program sees: the cells, and steps of its own that change or check the facts. */
export interface Steps extends GateCells {
  /** One atomic step on the facts; throwing in it is a violation of an invariant. */
  act(change: (facts: Model['facts'], cells: number[]) => number | undefined): number;
}

export type Program = (steps: Steps) => void | Promise<void>;

interface Thread {
  log: number[];
  waitsOn: number; // a cell, or -1
  done: boolean;
}

interface State {
  model: Model;
  threads: Thread[];
}

class Suspend extends Error {}

/** Explores everything; resolves to the number of states. Throws at the first violation or deadlock, with the schedule that leads there. */
export async function explore(initial: Model, programs: readonly Program[]): Promise<number> {
  const seen = new Set<string>();
  const start: State = { model: initial, threads: programs.map(() => ({ log: [], waitsOn: -1, done: false })) };
  const stack: { state: State; schedule: string }[] = [{ state: start, schedule: '' }];
  while (stack.length > 0) {
    const { state, schedule } = stack.pop()!;
    const key = JSON.stringify(state);
    if (seen.has(key)) continue;
    seen.add(key);
    const ready = state.threads.flatMap((thread, index) => (thread.done || thread.waitsOn >= 0 ? [] : [index]));
    const asleep = state.threads.findIndex((thread) => thread.waitsOn >= 0);
    if (ready.length === 0 && asleep >= 0) throw new Error(`deadlock: program ${asleep} sleeps for ever; schedule ${schedule}`);
    for (const index of ready) {
      const next = structuredClone(state);
      try {
        await step(next, index, programs[index]);
      } catch (error) {
        throw new Error(`${(error as Error).message}; schedule ${schedule}${index}`, { cause: error });
      }
      stack.push({ state: next, schedule: `${schedule}${index}` });
    }
  }
  return seen.size;
}

/** Perform one step of one program on the state. */
async function step(state: State, index: number, program: Program): Promise<void> {
  const { model, threads } = state;
  const thread = threads[index];
  let position = 0;
  let performed = false;
  const perform = (action: () => number): number => {
    if (position < thread.log.length) return thread.log[position++];
    if (performed) throw new Suspend();
    performed = true;
    const result = action();
    thread.log.push(result);
    position++;
    return result;
  };
  const { cells } = model;
  const steps: Steps = {
    load: (cell) => perform(() => cells[cell]),
    store: (cell, value) => void perform(() => (cells[cell] = value)),
    add: (cell, value) =>
      perform(() => {
        cells[cell] += value;
        return cells[cell] - value;
      }),
    notify: (cell) =>
      void perform(() => {
        for (const other of threads) if (other.waitsOn === cell) other.waitsOn = -1;
        return 0;
      }),
    wait: async (cell, value) => {
      perform(() => {
        if (cells[cell] === value) thread.waitsOn = cell;
        return 0;
      });
      if (thread.waitsOn >= 0) throw new Suspend();
    },
    shut: () => false,
    
    act: (change) => perform(() => change(model.facts, cells) ?? 0),
  };
  try {
    await program(steps);
    thread.done = true;
  } catch (error) {
    if (!(error instanceof Suspend)) throw error;
  }
}
