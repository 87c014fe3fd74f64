/**
 * Is a history of concurrent calls linearizable: could each call have taken effect at one moment between its start and its
 * end, so that the calls in the order of these moments return what a sequential object returns? The search of Wing and Gong
 * with Lowe's memory of what was tried. Its cost grows with the calls that overlap, so histories are cut into objects that
 * no call spans (a name, a place in a file), each judged alone: a history is linearizable if every object's is.
 */

/** One call: `begin` and `end` are moments of one clock that counts calls and returns. */
export interface Call<I> {
  readonly begin: number;
  readonly end: number;
  /** What was asked, and what came back. */
  readonly io: I;
}

/** A sequential object. States are never changed in place. */
export interface Specification<S, I> {
  readonly initial: S;
  /** The state after a call, or undefined if the call cannot return this in this state. */
  step(state: S, io: I): S | undefined;
  /** The call only looked, or failed: it changed nothing in whatever state it came. */
  looks(io: I): boolean;
  /** Equal for equal states. */
  key(state: S): string;
}

/** States looked at before a history is given up as too tangled to judge. */
const BUDGET = 300_000;

/** An order in which the calls could have taken effect; undefined if there is none, 'undecided' if that took too long to find out. */
export function linearize<S, I>({ initial, step, looks, key }: Specification<S, I>, history: readonly Call<I>[]): Call<I>[] | undefined | 'undecided' {
  // Who ended first is tried first: most often the calls took effect in that order.
  const calls = [...history].sort((a, b) => a.end - b.end).map((call, index) => ({ call, bit: 1n << BigInt(index), same: JSON.stringify(call.io) }));
  const tried = new Set<string>();
  const order: Call<I>[] = [];
  type Left = readonly (typeof calls)[number][];
  const search = (left: Left, state: S, done: bigint): boolean => {
    if (left.length === 0) return true;
    const memory = `${done.toString(36)} ${key(state)}`;
    if (tried.has(memory) || tried.size >= BUDGET) return false;
    tried.add(memory);
    // Whatever returned before another call began came first.
    const firstEnd = left[0].call.end;
    let possible: { readonly one: Left[number]; readonly next: S }[] = [];
    const seen = new Set<string>();
    for (const one of left) {
      // Of equal calls the one that ended first: the other can come wherever this one could.
      if (one.call.begin > firstEnd || seen.has(one.same)) continue;
      seen.add(one.same);
      const next = step(state, one.call.io);
      if (next === undefined) continue;
      // Who only looked may as well have come now: nothing after it depends on when it did.
      if (looks(one.call.io)) {
        possible = [{ one, next }];
        break;
      }
      possible.push({ one, next });
    }
    for (const { one, next } of possible) {
      order.push(one.call);
      if (search(left.filter((other) => other !== one), next, done | one.bit)) return true;
      order.pop();
    }
    return false;
  };
  if (search(calls, initial, 0n)) return order;
  return tried.size >= BUDGET ? 'undecided' : undefined;
}

/** Notes the calls of a test by object. */
export class History<I> {
  readonly objects = new Map<string, Call<I>[]>();
  #clock = 0;

  /** A moment, for calls noted by `note`. */
  now(): number {
    return this.#clock++;
  }

  /** One call and what it did to an object; a call that reads many objects is noted for each. */
  note(object: string, begin: number, end: number, io: I): void {
    let calls = this.objects.get(object);
    if (calls === undefined) this.objects.set(object, (calls = []));
    calls.push({ begin, end, io });
  }

  /** Throws unless every object's calls are linearizable; names the object and its calls. Returns how many objects were too tangled to judge. */
  expectLinearizable<S>(specification: Specification<S, I>): number {
    let undecided = 0;
    for (const [object, calls] of this.objects) {
      const order = linearize(specification, calls);
      if (order === 'undecided') undecided++;
      if (order !== undefined) continue;
      const text = [...calls].sort((a, b) => a.begin - b.begin).map(({ begin, end, io }) => `${begin}..${end} ${JSON.stringify(io)}`);
      throw new Error(`no order of these calls explains ${object}:\n${text.join('\n')}`);
    }
    return undecided;
  }

  get calls(): number {
    return [...this.objects.values()].reduce((sum, calls) => sum + calls.length, 0);
  }
}
