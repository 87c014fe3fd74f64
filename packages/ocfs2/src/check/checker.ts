/** What the passes of one verification share. */
import type { RawReader } from '../inspect/raw-reader.js';
import type { Findings } from './findings.js';
import { guard, guardSync } from './guard.js';
import type { InodeTable } from './inode-table.js';
import type { MetaRef, MetaTable } from './meta-table.js';
import { OwnerUse } from './owners.js';
import { RunList } from './run-list.js';
import type { Turns } from './turns.js';
import type { ClusterUsage } from './usage.js';

export class Checker {
  readonly owners = new OwnerUse();
  /** By refcount root: the shared runs and how many inodes use the tree. */
  readonly shared = new Map<number, { readonly runs: RunList; inodes: number }>();

  constructor(
    readonly reader: RawReader,
    readonly findings: Findings,
    readonly usage: ClusterUsage,
    readonly inodes: InodeTable,
    readonly meta: MetaTable,
    readonly turns: Turns,
  ) {}

  get geo() {
    return this.reader.geo;
  }

  /** Note a reference to a block of an extent allocator. False: something referred to it before. */
  refer(ref: MetaRef): boolean {
    return this.meta.refer(ref);
  }

  /** An inode uses the refcount tree. */
  useTree(root: number): void {
    this.#tree(root).inodes++;
  }

  /** A run of shared clusters an inode refers to, under one refcount tree. */
  shareRun(root: number, run: { readonly start: number; readonly clusters: number }): void {
    this.#tree(root).runs.push(run.start, run.clusters);
  }

  /** What another thread found of a tree. */
  addTree(root: number, inodes: number, runs: Uint32Array): void {
    const tree = this.#tree(root);
    tree.inodes += inodes;
    tree.runs.append(runs);
  }

  /** Run a part; what it throws becomes a finding under `code`. */
  guard<T>(code: string, what: string, part: () => Promise<T>): Promise<T | undefined> {
    return guard(this.findings, code, what, part);
  }

  /** guard for code that does no I/O. */
  guardSync<T>(code: string, what: string, part: () => T): T | undefined {
    return guardSync(this.findings, code, what, part);
  }

  #tree(root: number): { readonly runs: RunList; inodes: number } {
    let tree = this.shared.get(root);
    if (tree === undefined) this.shared.set(root, (tree = { runs: new RunList(), inodes: 0 }));
    return tree;
  }
}
