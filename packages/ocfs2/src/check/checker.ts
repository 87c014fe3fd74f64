/** What the passes of one verification share. */
import type { Block } from '../format/block.js';
import type { RawReader } from '../inspect/raw-reader.js';
import type { Findings } from './findings.js';
import type { ClusterUsage } from './usage.js';

/** Where a metadata block says it was allocated. */
export interface MetaRef {
  readonly blkno: number;
  readonly slot: number;
  readonly bit: number;
  readonly loc: number;
  readonly who: string;
}

/** What later passes need of an inode. */
export interface InodeFacts {
  readonly blkno: number;
  readonly mode: number;
  readonly links: number;
  readonly flags: number;
  readonly dynFeatures: number;
  readonly orphanedSlot: number;
  readonly system: boolean;
}

/** A run of shared clusters an inode refers to, under one refcount tree. */
export interface SharedRun {
  readonly start: number;
  readonly clusters: number;
}

export class Checker {
  readonly inodes = new Map<number, InodeFacts>();
  /** Metadata blocks referred to (extent blocks, dx roots, xattr blocks, refcount blocks). */
  readonly meta = new Map<number, MetaRef>();
  /** By refcount root: the shared runs and how many inodes use the tree. */
  readonly shared = new Map<number, { runs: SharedRun[]; inodes: number }>();

  constructor(readonly reader: RawReader, readonly findings: Findings, readonly usage: ClusterUsage) {}

  get geo() {
    return this.reader.geo;
  }

  /** Note a reference to a block of an extent allocator. */
  refer(ref: MetaRef): void {
    const other = this.meta.get(ref.blkno);
    if (other) this.findings.error('METADATA_SHARED', `block ${ref.blkno} belongs to ${other.who} and to ${ref.who}`, ref.blkno);
    else this.meta.set(ref.blkno, ref);
  }

  shareRun(root: number, run: SharedRun): void {
    let tree = this.shared.get(root);
    if (!tree) this.shared.set(root, (tree = { runs: [], inodes: 0 }));
    tree.runs.push(run);
  }

  /** Run a part; what it throws becomes a finding under `code`. */
  async guard<T>(code: string, what: string, part: () => Promise<T>): Promise<T | undefined> {
    try {
      return await part();
    } catch (error) {
      const fields = (error as { fields?: { block?: unknown } }).fields;
      this.findings.error(code, `${what}: ${(error as Error).message}`, typeof fields?.block === 'number' ? fields.block : undefined);
      return undefined;
    }
  }

  /** guard for code that does no I/O. */
  guardBlock(code: string, what: string, block: Block, part: () => void): void {
    try {
      part();
    } catch (error) {
      this.findings.error(code, `${what}: ${(error as Error).message}`, block.blkno);
    }
  }
}
