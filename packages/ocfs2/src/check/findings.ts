/**
 * What the verifier says. Codes are those of fsck.ocfs2 (ondisk-format.md 12; fsck.ocfs2.checks(8)) wherever it has one
 * for the fact; the few it lacks are listed here.
 */

export type Severity =
  /** The structure is wrong: data is lost or will be damaged by further use. */
  | 'error'
  /** Space nobody references: harmless, a crash may leave it (`Linux 6.1 fs/ocfs2/alloc.c:ocfs2_run_deallocs`). */
  | 'leak'
  /** A state that is normal after a crash and cleared by recovery (dirty journal, orphans, windows). */
  | 'recovery';

export interface Finding {
  readonly code: string;
  readonly severity: Severity;
  readonly message: string;
  /** Block the finding is about, where there is one. */
  readonly block?: number;
}

/** Codes fsck.ocfs2 has no name for. */
export const OWN_CODES = {
  EXTENT_ALLOC_LEAK: 'a block of an extent allocator is in use but nothing refers to it',
  EXTENT_ALLOC_FREE: 'a metadata block is referred to but free in its allocator',
  METADATA_SHARED: 'one metadata block is referred to twice',
  DX_FREE_LIST: "an indexed directory's list of blocks with room is wrong",
  DX_ENTRY_COUNT: "an indexed directory's entry count is wrong",
  EXTENT_LAST_EB: 'the last-leaf pointer or the leaf chain of an extent tree is wrong',
  EXTENT_FLAGS: 'an extent record has flags that do not exist',
  EXTENT_LEAF_FULL: 'a leaf other than the last has room (Linux refuses to change such a tree)',
  EXTENT_RANGES: 'interior records do not tile their level',
  GROUP_SIZE: 'a group descriptor is wrong about the size of its bitmap',
  SUPERBLOCK_UUID_HASH: 'the hash of the UUID, with which attribute names are hashed, is not that of the UUID',
  FEATURES_UNKNOWN: 'the superblock has read-only compatible features that do not exist',
  JOURNAL_DIRTY: 'the journal of a slot was not closed',
  BACKUP_SUPER_FREE: "a backup superblock's cluster is free in the global bitmap",
  BACKUP_SUPER_STALE: 'a backup superblock differs from the superblock',
  QUOTA_LOCAL: 'a local quota file is malformed',
  QUOTA_LOCAL_IN_USE: 'a local quota file was not closed',
  QUOTA_FREE_LIST: 'the list of free blocks, or of leaves with room, of a global quota file is wrong',
  QUOTA_USAGE: 'the quota files say something else than the inodes add up to',
  FEATURE_INPROG: 'a resize or tunefs run was interrupted, or an offline writer is active',
  SLOT_IN_USE: 'a slot of the slot map is taken',
  SLOT_MAP_INVALID: 'the slot map cannot be read, or names a node that cannot be',
  UNREADABLE: 'a block cannot be read or does not hold what it should',
} as const;

export class Findings {
  readonly list: Finding[] = [];
  /** More are counted, not kept. */
  truncated = 0;
  constructor(private readonly limit = 10000) {}

  add(severity: Severity, code: string, message: string, block?: number): void {
    if (this.list.length >= this.limit) this.truncated++;
    else this.list.push({ severity, code, message, block });
  }
  error(code: string, message: string, block?: number): void {
    this.add('error', code, message, block);
  }

  /** Where findings from now on begin, for `sortFrom`. */
  mark(): number {
    return this.list.length;
  }
  /** Put findings since a mark into the order of blocks, those of one block into that of their texts: the same however they were found. */
  sortFrom(mark: number): void {
    const text = ({ code, message }: Finding) => `${code} ${message}`;
    const order = (a: Finding, b: Finding) => (a.block ?? 0) - (b.block ?? 0) || (text(a) < text(b) ? -1 : 1);
    this.list.push(...this.list.splice(mark).sort(order));
  }

  /** Findings of a part that is checked beside others; `take` puts them where they belong. */
  part(): Findings {
    return new Findings(this.limit);
  }
  take(part: { readonly list: readonly Finding[]; readonly truncated: number }): void {
    for (const { severity, code, message, block } of part.list) this.add(severity, code, message, block);
    this.truncated += part.truncated;
  }
}
