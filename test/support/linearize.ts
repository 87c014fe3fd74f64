/**
 * Is there an order of operations in which each took effect at one moment between its call and its return, and in which each result is right?
 * (Linearizability, decided operation by operation at their returns: Lowe, "Testing for linearizability", 2017, "just-in-time linearization".)
 *
 * Every configuration is a state of the model with the operations under way that already took effect in it. When an operation returns, those
 * configurations stay in which it took effect, perhaps after others under way. None left: no order explains the results.
 * For histories of thousands of calls that go on from the states they may have led to; short ones are searched by packages/ocfs2/test/support/linearizable.ts.
 */

export interface Operation<I, O> {
  /** Who asked. */
  readonly by: string;
  /** Moments of one clock: just before the call, and just after its answer. */
  readonly start: number;
  readonly end: number;
  readonly input: I;
  readonly output: O;
}

export interface Model<S, I, O> {
  /** The state after it; undefined: with this state that can't have been the result. States are values: never changed. */
  step(state: S, operation: Operation<I, O>): S | undefined;
  /** Equal for equal states, else different. */
  key(state: S): string;
}

interface Configuration<S> {
  readonly state: S;
  /** Indices of operations under way that took effect. */
  readonly done: ReadonlySet<number>;
}

export type Verdict<S, I, O> = { readonly states: readonly S[] } | { readonly impossible: Operation<I, O>; readonly states: readonly S[] };

/**
 * All operations of a history, in any order of the array. Gives the states it may have led to, or the operation whose result nothing explains,
 * with the states before it.
 */
export function linearize<S, I, O>(model: Model<S, I, O>, initial: readonly S[], history: readonly Operation<I, O>[]): Verdict<S, I, O> {
  const events = history.flatMap(({ start, end }, index) => [{ at: start, index, returns: false }, { at: end, index, returns: true }]);
  // At one moment calls come first: that allows more.
  events.sort((a, b) => a.at - b.at || Number(a.returns) - Number(b.returns));
  const pending = new Set<number>();
  let configurations: Configuration<S>[] = initial.map((state) => ({ state, done: new Set() }));
  for (const { index, returns } of events) {
    if (!returns) {
      pending.add(index);
      continue;
    }
    const before = configurations;
    configurations = withEffect(model, before, history, pending, index);
    pending.delete(index);
    if (configurations.length === 0) return { impossible: history[index], states: before.map(({ state }) => state) };
  }
  return { states: configurations.map(({ state }) => state) };
}

/** Configurations in which operation `index` took effect, as they are once it is no longer under way. */
function withEffect<S, I, O>(model: Model<S, I, O>, from: readonly Configuration<S>[], history: readonly Operation<I, O>[], pending: ReadonlySet<number>, index: number): Configuration<S>[] {
  const found = new Map<string, Configuration<S>>();
  const seen = new Set<string>();
  const queue = [...from];
  for (let one = queue.pop(); one; one = queue.pop()) {
    const key = `${[...one.done].toSorted((a, b) => a - b).join()}|${model.key(one.state)}`;
    if (seen.has(key)) continue;
    seen.add(key);
    if (one.done.has(index)) {
      const done = new Set(one.done);
      done.delete(index);
      found.set(key, { state: one.state, done });
      continue;
    }
    for (const next of pending) {
      if (one.done.has(next)) continue;
      const state = model.step(one.state, history[next]);
      if (state !== undefined) queue.push({ state, done: new Set([...one.done, next]) });
    }
  }
  return [...found.values()];
}
