/**
 * Which case does what. Of `ROUND` cases as many go through the verifier as there is to verify, spread evenly: each class of field
 * with each mutation, each class with its check left wrong, and each kind of block with each mutation of a block, on one volume
 * that has it, taking volumes in turn. The others are read, or written to.
 */
import type { Random } from '@lunfs/device';
import type { Catalogue } from './catalogue.js';
import { BLOCK_MUTATIONS, type BlockMutation, MUTATIONS, type Mutation } from './mutations.js';

/** Cases within which everything has been verified once: what `npm test` runs. */
export const ROUND = 100_000;
/** Bytes without a meaning have no more than these. */
const FOR_RESERVED: readonly Mutation[] = ['zeros', 'ones', 'random'];
/** Part of the others in which the volume is changed. */
const CHANGED = 0.08;

/** What a case does to what; places and values come from its dice. */
export interface Task {
  readonly target: number;
  readonly what: 'verify' | 'change' | 'read';
  /** A field of this class, or a block that has one. */
  readonly cls: string;
  readonly mutation: Mutation | { readonly block: BlockMutation };
  /** The check is left as it was; undefined: the dice say. */
  readonly stale: boolean | undefined;
}

/** What is scheduled of a volume. */
export interface Scheduled {
  readonly catalogue: Catalogue;
  readonly metaecc: boolean;
}

export class Schedule {
  readonly #verified: Task[] = [];

  constructor(private readonly targets: readonly Scheduled[]) {
    const classes = new Map<string, number[]>(), kinds = new Map<string, { target: number; cls: string }[]>();
    for (const [target, { catalogue }] of targets.entries()) {
      for (const cls of catalogue.classes) {
        classes.set(cls, [...(classes.get(cls) ?? []), target]);
        const kind = cls.slice(0, cls.indexOf(':'));
        kinds.set(kind, [...(kinds.get(kind) ?? []), { target, cls }]);
      }
    }
    let turn = 0;
    const next = <T>(all: readonly T[]): T => all[turn++ % all.length];
    for (const mutation of MUTATIONS) {
      for (const [cls, all] of classes) if (!cls.endsWith('reserved.bytes') || FOR_RESERVED.includes(mutation)) this.#verified.push({ target: next(all), what: 'verify', cls, mutation, stale: false });
    }
    for (const [cls, all] of classes) {
      const checked = all.filter((target) => targets[target].metaecc);
      if (checked.length > 0) this.#verified.push({ target: next(checked), what: 'verify', cls, mutation: 'random', stale: true });
    }
    for (const block of BLOCK_MUTATIONS) for (const all of kinds.values()) this.#verified.push({ ...next(all), what: 'verify', mutation: { block }, stale: undefined });
    if (this.#verified.length > ROUND / 2) throw new Error(`${this.#verified.length} things to verify are too many for ${ROUND} cases`);
  }

  /** Things to verify in a round. */
  get size(): number {
    return this.#verified.length;
  }

  task(number: number, random: Random): Task {
    const before = Math.floor((number * this.size) / ROUND);
    if (Math.floor(((number + 1) * this.size) / ROUND) > before) return this.#verified[before % this.size];
    const turn = Math.floor(number / this.targets.length);
    // Even and odd numbers are run by different processes: each is to have all volumes.
    const target = (number + turn) % this.targets.length, { classes } = this.targets[target].catalogue;
    const mutation = random.int(16) === 0 ? { block: random.pick(BLOCK_MUTATIONS) } : MUTATIONS[Math.floor(turn / classes.length + random.int(2)) % MUTATIONS.length];
    return { target, what: random.float() < CHANGED ? 'change' : 'read', cls: classes[turn % classes.length], mutation, stale: undefined };
  }
}
