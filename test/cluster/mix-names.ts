/**
 * Two directories with a few names each, and everything that can be done to names from all nodes at once: a subject of the random mix
 * (mix-subjects.ts). Each success and each refusal must fit an order of all of them.
 *
 * One refusal more is allowed, and counted: a call that looks at two things (rename, link), or that Linux makes in two steps of its own (its
 * walk to the name, then the operation: fs/ocfs2/namei.c compares what they found and says ENOENT, EACCES or ESTALE), may be refused when another
 * node changed one of its names meanwhile. A success never may.
 */
import type { Random } from '@lunfs/device';
import type { Hand } from '../support/hand.js';
import { type Model, type Operation, linearize } from '../support/linearize.js';
import { type Subject, counts } from './mix-subjects.js';

type Call = { readonly op: 'create' | 'mkdir' | 'unlink' | 'rmdir' | 'stat' | 'list'; readonly path: string } | { readonly op: 'rename' | 'link'; readonly path: string; readonly to: string };

interface Result {
  readonly error?: string;
  /** create, stat */
  readonly ino?: string;
  /** stat: `file` or `directory`, and links */
  readonly kind?: string;
  readonly links?: number;
  /** list */
  readonly names?: string;
  /** Somebody else changed one of its names at the same time: set when the history is whole. */
  contended?: boolean;
}

/** By path: `directory`, or the inode number of a file. */
type Tree = Readonly<Record<string, string>>;

const MUTATING = new Set(['create', 'mkdir', 'unlink', 'rmdir', 'rename', 'link']);

function refusal(tree: Tree, call: Call): string | undefined {
  const here = tree[call.path];
  switch (call.op) {
    case 'create': case 'mkdir': return here === undefined ? undefined : 'EEXIST';
    case 'unlink': return here === undefined ? 'ENOENT' : here === 'directory' ? 'EISDIR' : undefined;
    case 'rmdir': return here === undefined ? 'ENOENT' : here === 'directory' ? undefined : 'ENOTDIR';
    case 'stat': return here === undefined ? 'ENOENT' : undefined;
    case 'list': return undefined;
    case 'link': return here === undefined ? 'ENOENT' : tree[call.to] !== undefined ? 'EEXIST' : here === 'directory' ? 'EPERM' : undefined;
    default: {
      const there = tree[call.to];
      if (here === undefined) return 'ENOENT';
      if (there === undefined || (here === 'directory') === (there === 'directory')) return undefined;
      return here === 'directory' ? 'ENOTDIR' : 'EISDIR';
    }
  }
}

/** What a success makes of it; undefined: it could not have answered so. */
function effect(tree: Tree, call: Call, result: Result): Tree | undefined {
  const here = tree[call.path];
  switch (call.op) {
    case 'create': return Object.values(tree).includes(result.ino!) ? undefined : { ...tree, [call.path]: result.ino! };
    case 'mkdir': return { ...tree, [call.path]: 'directory' };
    case 'unlink': case 'rmdir': return without(tree, call.path);
    case 'link': return { ...tree, [call.to]: here };
    case 'rename': return here !== 'directory' && tree[call.to] === here ? tree : { ...without(tree, call.path), [call.to]: here };
    case 'list': {
      const names = Object.keys(tree).filter((path) => path.startsWith(`${call.path}/`)).map((path) => path.slice(call.path.length + 1)).toSorted();
      return names.join() === result.names ? tree : undefined;
    }
    default: {
      if ((here === 'directory') !== (result.kind === 'directory')) return undefined;
      if (here === 'directory') return tree;
      // Links are read in a second step.
      const links = Object.values(tree).filter((ino) => ino === here).length;
      return here === result.ino && (result.contended || links === result.links) ? tree : undefined;
    }
  }
}

/**
 * A walk that found a file under its old name, before another call moved it, and then under its new one: two names of one file to Linux, and a rename
 * of these is done without doing anything (Linux 6.1 fs/namei.c:vfs_rename).
 */
function renamedToItself(tree: Tree, call: Call, { error, contended }: Result): boolean {
  if (call.op !== 'rename' || error !== undefined || contended !== true) return false;
  const there = tree[call.to];
  return tree[call.path] === undefined && there !== undefined && there !== 'directory';
}

function without(tree: Tree, path: string): Tree {
  return Object.fromEntries(Object.entries(tree).filter(([one]) => one !== path));
}

export class Names implements Subject {
  readonly #directories: readonly string[];
  #operations: Operation<Call, Result>[] = [];
  #states: readonly Tree[] = [{}];
  readonly #model: Model<Tree, Call, Result> = {
    key: (tree) => JSON.stringify(Object.entries(tree).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    step: (tree, { by, input, output }) => {
      if (renamedToItself(tree, input, output)) return tree;
      const refused = refusal(tree, input);
      if (refused === output.error) return refused === undefined ? effect(tree, input, output) : tree;
      return this.#mayRefuse(by, input, output) ? tree : undefined;
    },
  };

  /** `names` in each directory. */
  constructor(readonly name: string, private readonly names: number) {
    this.#directories = [`${name}/a`, `${name}/b`];
  }

  async begin(hand: Hand): Promise<void> {
    await hand.must('mkdir', this.name);
    for (const directory of this.#directories) await hand.must('mkdir', directory);
  }

  async step(hand: Hand, random: Random): Promise<void> {
    const any = (): string => `${random.pick(this.#directories)}/${String.fromCharCode(112 + random.int(this.names))}`;
    const op = random.pick(['create', 'create', 'create', 'mkdir', 'unlink', 'unlink', 'rmdir', 'rename', 'rename', 'rename', 'link', 'stat', 'stat', 'stat', 'list'] as const);
    if (op === 'list') return await this.#make(hand, { op, path: random.pick(this.#directories) });
    const path = any();
    // Directories have the first of several names, and are not moved. A kernel node that finds one under a new parent which it still has in use under the old one
    // takes its entry along, with the lock of the old parent's name, and stops at that (Linux 6.1 fs/ocfs2/dcache.c:ocfs2_dentry_attach_lock, BUG).
    const ofDirectories = this.names > 1 && path.endsWith('/p');
    if (op === 'mkdir' && !ofDirectories) return await this.#make(hand, { op: 'create', path });
    if (op === 'rename' && ofDirectories) return await this.#make(hand, { op: 'mkdir', path });
    if (op !== 'rename' && op !== 'link') return await this.#make(hand, { op, path });
    const to = any();
    if (to !== path) await this.#make(hand, { op, path, to });
  }

  async look(hand: Hand): Promise<void> {
    for (const directory of this.#directories) {
      await this.#make(hand, { op: 'list', path: directory });
      for (let i = 0; i < this.names; i++) await this.#make(hand, { op: 'stat', path: `${directory}/${String.fromCharCode(112 + i)}` });
    }
  }

  settle(): Promise<void> {
    const operations = this.#operations;
    this.#operations = [];
    mark(operations);
    const verdict = linearize(this.#model, this.#states, operations);
    if ('impossible' in verdict) {
      const { impossible } = verdict;
      const line = ({ by, start, end, input, output }: Operation<Call, Result>): string => `${(start - impossible.start).toFixed(1).padStart(9)} ${(end - impossible.start).toFixed(1).padStart(9)} ${by} ${JSON.stringify(input)} -> ${JSON.stringify(output)}`;
      const near = operations.filter(({ start }) => start < impossible.end).toSorted((a, b) => a.start - b.start).slice(-40);
      throw new Error(`${this.name}: no order of calls explains this answer:\n${line(impossible)}\nbefore it: ${verdict.states.slice(0, 4).map((state) => this.#model.key(state)).join(' or ')}\nmilliseconds of call and answer:\n${near.map(line).join('\n')}`);
    }
    this.#states = verdict.states;
    counts.tolerated += operations.filter(({ by, input, output }) => output.error !== undefined && this.#mayRefuse(by, input, output)).length;
    return Promise.resolve();
  }

  #mayRefuse(by: string, { op }: Call, { error, contended }: Result): boolean {
    // A walk met a directory that another node had moved, while somebody held the mount's lock of renames (Linux 6.1 fs/dcache.c:__d_unalias).
    if ((op === 'rename' || op === 'link') && error === 'ESTALE') return true;
    if (error === undefined || !contended) return false;
    return op === 'rename' || op === 'link' || (by.startsWith('kernel') && ['ENOENT', 'EACCES', 'ESTALE'].includes(error));
  }

  async #make(hand: Hand, input: Call): Promise<void> {
    counts.calls++;
    const start = performance.now();
    const { error, values } = await hand.call(input.op, input.path, ...('to' in input ? [input.to] : input.op === 'create' ? [''] : []));
    const end = performance.now();
    const output: Result = { error };
    if (error === undefined) {
      if (input.op === 'create') Object.assign(output, { ino: values[0] });
      if (input.op === 'stat') Object.assign(output, { kind: values[0], ino: values[1], links: Number(values[2]) });
      if (input.op === 'list') Object.assign(output, { names: values.join() });
    }
    this.#operations.push({ by: hand.name, start, end, input, output });
  }
}

/** Whether others changed a name at the same time: of its own names, and for the links of what was looked at any name. */
function mark(operations: readonly Operation<Call, Result>[]): void {
  const changes = operations.filter(({ input }) => MUTATING.has(input.op));
  const names = (call: Call): string[] => ('to' in call ? [call.path, call.to] : [call.path]);
  for (const one of operations) {
    const mine = names(one.input);
    one.output.contended = changes.some((other) => other !== one && other.start < one.end && other.end > one.start && (one.input.op === 'stat' || names(other.input).some((name) => mine.includes(name))));
  }
}
