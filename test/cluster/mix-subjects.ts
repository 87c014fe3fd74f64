/**
 * What a random mix works at: subjects, each some files with a model of what every call on them may answer. Hands on all nodes make random
 * calls; the history of a subject, each call with the moments before and after it, must be one that the model could have produced with each
 * call at one moment in between (test/support/linearize.ts): so each read sees the last completed write of any node.
 */
import type { Random } from '@lunfs/device';
import type { Answer, Hand } from '../support/hand.js';
import { type Model, type Operation, linearize } from '../support/linearize.js';

/** A subject that hands of all nodes work at. */
export interface Subject {
  readonly name: string;
  /** Makes its files. */
  begin(hand: Hand): Promise<void>;
  /** A random call, or a few. */
  step(hand: Hand, random: Random): Promise<void>;
  /** Looks at all of it, while nobody changes it. */
  look(hand: Hand): Promise<void>;
  /** Rejects if nothing explains what was seen since the last time; `hand` tidies up. Nobody works at it meanwhile. */
  settle(hand: Hand): Promise<void>;
}

export const counts = { calls: 0, tolerated: 0 };

/** A model's state or states, and the operations since. */
class History<S, I, O> {
  #operations: Operation<I, O>[] = [];

  constructor(private readonly name: string, private readonly model: Model<S, I, O>, private states: readonly S[]) {}

  /** Makes a call and keeps what it was and when. */
  async record(hand: Hand, input: I, call: () => Promise<O>): Promise<O> {
    const start = performance.now();
    const output = await call();
    this.add({ by: hand.name, start, end: performance.now(), input, output });
    return output;
  }

  add(operation: Operation<I, O>): void {
    counts.calls++;
    this.#operations.push(operation);
  }

  reset(state: S): void {
    this.states = [state];
  }

  check(): void {
    const operations = this.#operations;
    this.#operations = [];
    const verdict = linearize(this.model, this.states, operations);
    if ('impossible' in verdict) throw new Error(this.#why(operations, verdict.impossible, verdict.states));
    // Several: operations at the same time. What is asked next tells.
    this.states = verdict.states;
  }

  #why(operations: readonly Operation<I, O>[], impossible: Operation<I, O>, states: readonly S[]): string {
    const line = ({ by, start, end, input, output }: Operation<I, O>): string => `${(start - impossible.start).toFixed(1).padStart(9)} ${(end - impossible.start).toFixed(1).padStart(9)} ${by} ${JSON.stringify(input)} -> ${JSON.stringify(output)}`;
    const near = operations.filter(({ end, start }) => start < impossible.end && end > impossible.start - 10_000).toSorted((a, b) => a.start - b.start).slice(-60);
    return `${this.name}: no order of calls explains this answer:\n${line(impossible)}\nbefore it: ${states.slice(0, 4).map((state) => this.model.key(state)).join(' or ')}\nmilliseconds of call and answer:\n${near.map(line).join('\n')}`;
  }
}

/** Something that is set and read as a whole. */
type RegisterCall = { readonly set: string } | { readonly get: true } | { readonly remove: true };
type Register = History<string, RegisterCall, string | undefined>;

const REGISTER: Model<string, RegisterCall, string | undefined> = {
  key: (state) => state,
  step: (state, { input, output }) => {
    if ('set' in input) return input.set;
    if ('get' in input) return output === state ? state : undefined;
    // Removing says whether there was something.
    return (output === 'gone') === (state === '') ? '' : undefined;
  },
};

function wentWell({ error, values }: Answer, hand: Hand, what: string): readonly string[] {
  if (error !== undefined) throw new Error(`${hand.name}: ${what}: ${error}`);
  return values;
}

/** Places in a file, in blocks and clusters of their own, with holes between: written and read through files that stay open and such that don't. */
export class Places implements Subject {
  static readonly #LENGTH = 16;
  readonly #slots: Register[];
  readonly #open = new Set<Hand>();

  /** `distance`: bytes from one place to the next. */
  constructor(readonly name: string, private readonly distance: number, count: number) {
    this.#slots = Array.from({ length: count }, (_, i) => new History(`${name}, place ${i}`, REGISTER, ['']));
  }

  async begin(hand: Hand): Promise<void> {
    await hand.must('create', this.name, '');
  }

  async step(hand: Hand, random: Random): Promise<void> {
    if (!this.#open.has(hand)) {
      await hand.must('open', this.name, this.name, 2);
      this.#open.add(hand);
    }
    const dice = random.int(100);
    const slot = random.int(this.#slots.length);
    if (dice < 2) return await this.#cut(hand);
    if (dice < 55) return await this.#read(hand, slot, random.int(2) === 0);
    const value = `${random.u32().toString(16).padStart(8, '0')}${random.u32().toString(16).padStart(8, '0')}`.repeat(2);
    const [operation, file] = random.int(4) === 0 ? ['put', this.name] : ['pwrite', this.name];
    await this.#slots[slot].record(hand, { set: value }, async () => void (await hand.must(operation, file, slot * this.distance, value)));
  }

  async look(hand: Hand): Promise<void> {
    for (const slot of this.#slots.keys()) await this.#read(hand, slot, true);
  }

  settle(): Promise<void> {
    for (const slot of this.#slots) slot.check();
    return Promise.resolve();
  }

  async #read(hand: Hand, slot: number, anew: boolean): Promise<void> {
    await this.#slots[slot].record(hand, { get: true }, async () => {
      const [hex] = await hand.must(anew ? 'get' : 'pread', this.name, slot * this.distance, Places.#LENGTH);
      return /^(00)*$/.test(hex) ? '' : hex;
    });
  }

  /** All places at once: one operation of each. */
  async #cut(hand: Hand): Promise<void> {
    const start = performance.now();
    await hand.must('ftruncate', this.name, 0);
    const end = performance.now();
    for (const slot of this.#slots) slot.add({ by: hand.name, start, end, input: { set: '' }, output: undefined });
  }
}

/** Sizes, times, modes and extended attributes of files: each seen at once. */
export class Facts implements Subject {
  readonly #size: Register;
  readonly #mode: Register;
  readonly #mtime: Register;
  readonly #xattr: Register;
  #next = 1_000_000_000;

  constructor(readonly name: string) {
    this.#size = new History(`${name}: size`, REGISTER, ['0']);
    this.#mode = new History(`${name}: mode`, REGISTER, ['420']);
    this.#mtime = new History(`${name}: mtime`, REGISTER, ['1']);
    this.#xattr = new History(`${name}: attribute`, REGISTER, ['']);
  }

  async begin(hand: Hand): Promise<void> {
    for (const file of ['size', 'times']) await hand.must('create', `${this.name}-${file}`, '');
    await hand.must('utime', `${this.name}-times`, 1);
  }

  async step(hand: Hand, random: Random): Promise<void> {
    const value = ++this.#next;
    const set = (register: Register, text: string, ...call: [string, ...(string | number)[]]): Promise<unknown> => register.record(hand, { set: text }, async () => void (await hand.must(...call)));
    switch (random.int(10)) {
      case 0: case 1: return void (await set(this.#size, String(value % 3_000_000), 'truncate', `${this.name}-size`, value % 3_000_000));
      case 2: return void (await set(this.#mode, String(value % 512), 'chmod', `${this.name}-times`, value % 512));
      case 3: return void (await set(this.#mtime, String(value), 'utime', `${this.name}-times`, value));
      case 4: case 5: {
        // In the inode, in a block of its own, in clusters of their own.
        const text = String(value).padEnd(random.pick([10, 200, 9000]), 'x');
        return void (await set(this.#xattr, text, 'setxattr', `${this.name}-size`, 'user.value', text));
      }
      case 6: return await this.#remove(hand);
      case 7: return await this.#getXattr(hand);
      default: return await this.#stat(hand, random.int(2) === 0 ? 'size' : 'times');
    }
  }

  async look(hand: Hand): Promise<void> {
    await this.#stat(hand, 'size');
    await this.#stat(hand, 'times');
    await this.#getXattr(hand);
  }

  settle(): Promise<void> {
    for (const register of [this.#size, this.#mode, this.#mtime, this.#xattr]) register.check();
    return Promise.resolve();
  }

  async #stat(hand: Hand, file: 'size' | 'times'): Promise<void> {
    const start = performance.now();
    const [, , , size, mode, mtime] = await hand.must('stat', `${this.name}-${file}`);
    const seen = { by: hand.name, start, end: performance.now(), input: { get: true } } as const;
    if (file === 'size') this.#size.add({ ...seen, output: size });
    else {
      this.#mode.add({ ...seen, output: mode });
      this.#mtime.add({ ...seen, output: mtime });
    }
  }

  async #getXattr(hand: Hand): Promise<void> {
    await this.#xattr.record(hand, { get: true }, async () => {
      const answer = await hand.call('getxattr', `${this.name}-size`, 'user.value');
      return answer.error === 'ENODATA' ? '' : wentWell(answer, hand, `getxattr of ${this.name}-size`)[0];
    });
  }

  async #remove(hand: Hand): Promise<void> {
    await this.#xattr.record(hand, { remove: true }, async () => {
      const answer = await hand.call('removexattr', `${this.name}-size`, 'user.value');
      if (answer.error === 'ENODATA') return 'gone';
      wentWell(answer, hand, `removexattr of ${this.name}-size`);
      return 'was there';
    });
  }
}

/** A number that everybody adds one to, under a file lock of the whole cluster: no two see the same. */
export class Counter implements Subject {
  readonly #history: History<number, object, number>;

  constructor(readonly name: string) {
    this.#history = new History<number, object, number>(name, { key: String, step: (state, { output }) => (output === state ? state + 1 : undefined) }, [0]);
  }

  async begin(hand: Hand): Promise<void> {
    await hand.must('create', this.name, '');
  }

  async step(hand: Hand): Promise<void> {
    await this.#history.record(hand, {}, async () => Number((await hand.must('count', this.name))[0]));
  }

  look(hand: Hand): Promise<void> {
    return this.step(hand);
  }

  settle(): Promise<void> {
    this.#history.check();
    return Promise.resolve();
  }
}

const PAGE = 4096;

/** A file that everybody appends records to; it is emptied when it has settled. */
export class Log implements Subject {
  readonly #history: History<string, string, string>;
  #next = 0;

  /** `mayAppend`: who appends with O_APPEND alone; others do so under the file's lock, and then everybody does. */
  constructor(readonly name: string, private readonly appends: (hand: Hand) => 'bare' | 'locked' | 'never') {
    // An append's answer is its place, where it is known; a look's all there is.
    this.#history = new History(name, { key: (state) => state, step: (state, { input, output }) => (input === '' ? (output === state ? state : undefined) : output === '' || Number(output) * 2 === state.length ? state + input : undefined) }, ['']);
  }

  async begin(hand: Hand): Promise<void> {
    await hand.must('create', this.name, '');
  }

  async step(hand: Hand, random: Random): Promise<void> {
    const how = this.appends(hand);
    if (how === 'never' || random.int(3) === 0) return await this.look(hand);
    const record = Buffer.from(`${hand.name} ${++this.#next}`.padEnd(random.pick([20, 20, 700]), '.')).toString('hex');
    if (how === 'bare') await this.#history.record(hand, record, async () => (await hand.must('add', this.name, record)).join(''));
    else await this.#append(hand, record);
  }

  /**
   * A kernel node writes page by page, and its reads do not wait for a write's end: each page's part is seen at a moment of its own (Linux 6.1
   * mm/filemap.c:generic_perform_write, fs/ocfs2/aops.c:ocfs2_write_end_nolock sets the size).
   */
  async #append(hand: Hand, record: string): Promise<void> {
    const start = performance.now();
    const at = Number((await hand.must('lockedadd', this.name, record))[0]);
    const moments = { by: hand.name, start, end: performance.now() };
    const inPage = hand.name.startsWith('kernel') ? PAGE - (at % PAGE) : Number.POSITIVE_INFINITY;
    this.#history.add({ ...moments, input: record.slice(0, inPage * 2), output: String(at) });
    if (record.length > inPage * 2) this.#history.add({ ...moments, input: record.slice(inPage * 2), output: String(at + inPage) });
  }

  async look(hand: Hand): Promise<void> {
    await this.#history.record(hand, '', async () => (await hand.must('slurp', this.name))[0]);
  }

  async settle(hand: Hand): Promise<void> {
    this.#history.check();
    await hand.must('truncate', this.name, 0);
    this.#history.reset('');
  }
}

/** Files that are unlinked while others have them open: who has one open reads what was in it until he closes it. */
export class Attic implements Subject {
  static readonly #NAMES = 4;
  readonly #open = new Map<Hand, Map<string, string>>();
  #next = 0;

  constructor(readonly name: string) {}

  async begin(hand: Hand): Promise<void> {
    await hand.must('mkdir', this.name);
  }

  async step(hand: Hand, random: Random): Promise<void> {
    const path = `${this.name}/${random.int(Attic.#NAMES)}`;
    const mine = this.#open.get(hand) ?? new Map<string, string>();
    this.#open.set(hand, mine);
    counts.calls++;
    const dice = random.int(10);
    if (dice < 2) {
      const answer = await hand.call('create', path, Buffer.from(`${++this.#next}`.padStart(10, '0')).toString('hex').repeat(3000));
      if (answer.error !== 'EEXIST') wentWell(answer, hand, `create ${path}`);
    } else if (dice < 4) {
      const answer = await hand.call('unlink', path);
      if (answer.error !== 'ENOENT') wentWell(answer, hand, `unlink ${path}`);
    } else if (dice < 7 && mine.size < 4) await this.#openOne(hand, path, mine);
    else {
      const one = [...mine.keys()].at(random.int(Math.max(1, mine.size)));
      if (one === undefined) return;
      await this.#check(hand, one, mine.get(one)!, random);
      if (dice === 9) await this.#close(hand, one, mine);
    }
  }

  look(): Promise<void> {
    return Promise.resolve();
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  /** Everything closed and unlinked. */
  async end(hand: Hand): Promise<void> {
    for (const [one, mine] of this.#open) for (const as of [...mine.keys()]) await this.#close(one, as, mine);
    for (let i = 0; i < Attic.#NAMES; i++) await hand.call('unlink', `${this.name}/${i}`);
  }

  async #openOne(hand: Hand, path: string, mine: Map<string, string>): Promise<void> {
    const as = `attic${++this.#next}`;
    const answer = await hand.call('open', as, path, 0);
    if (answer.error === 'ENOENT') return;
    wentWell(answer, hand, `open ${path}`);
    const [start] = await hand.must('pread', as, 0, 10);
    const [, , , size] = await hand.must('fstat', as);
    if (size === '30000' && start.length === 20) mine.set(as, start);
    else await hand.must('close', as); // its maker is still writing
  }

  async #check(hand: Hand, as: string, token: string, random: Random): Promise<void> {
    const at = random.int(3000);
    const [hex] = await hand.must('pread', as, at * 10, 10);
    const [, , , size] = await hand.must('fstat', as);
    if (hex !== token || size !== '30000') throw new Error(`${hand.name}: an open file of ${this.name} had ${token}, and has ${hex} at ${at * 10}; its size is ${size}`);
  }

  async #close(hand: Hand, as: string, mine: Map<string, string>): Promise<void> {
    await hand.must('close', as);
    mine.delete(as);
  }
}
