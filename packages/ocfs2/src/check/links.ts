/** Passes 3 and 4: every directory hangs in the tree, link counts are true, orphans are where they say. */
import { MODE } from '../format/constants.js';
import type { SystemFiles } from '../context.js';
import type { Checker } from './checker.js';
import type { InodeTable } from './inode-table.js';

export function checkLinks(c: Checker, sys: SystemFiles): void {
  const { findings, geo, inodes } = c;
  const root = inodes.liveRow(geo.rootBlkno), systemDir = inodes.liveRow(geo.systemDirBlkno);
  if (root < 0) findings.error('ROOT_DIR_MISSING', `the root directory ${geo.rootBlkno} is no live inode`, geo.rootBlkno);
  else if (inodes.type(root) !== MODE.DIR) findings.error('ROOT_NOTDIR', `the root ${geo.rootBlkno} is no directory`, geo.rootBlkno);
  for (const blkno of sys.orphanDir) if (inodes.liveRow(blkno) < 0) findings.error('ORPHAN_DIR_MISSING', `orphan directory ${blkno} is no live inode`, blkno);

  // An orphan directory counts the directories in it (Linux 6.1 fs/ocfs2/namei.c:ocfs2_orphan_add), whose ".." stays what it was.
  const orphaned = new Map<number, number>();
  for (const row of inodes.liveRows()) {
    const dir = inodes.isDirectory(row) ? sys.orphanDir[inodes.orphanDir(row)] : undefined;
    if (dir !== undefined) orphaned.set(dir, (orphaned.get(dir) ?? 0) + 1);
  }
  const connected = new Connected(inodes, [root, systemDir]);
  for (const row of inodes.liveRows()) {
    const isRoot = row === root || row === systemDir;
    // What is well says nothing: the common case is decided without a lookup.
    const orphanSlot = inodes.orphanDir(row), flagged = inodes.isOrphaned(row);
    if (orphanSlot >= 0 || flagged) checkOrphan(c, row, orphanSlot, flagged);
    if (inodes.isDirectory(row) && !isRoot && orphanSlot < 0) checkParent(c, row, connected);
    if (inodes.isSystem(row) && !inodes.isDirectory(row)) {
      // Nobody counts the links of system files; but each has one name.
      const names = inodes.entries(row);
      if (names !== 1) findings.error(names === 0 ? 'INODE_NOT_CONNECTED' : 'INODE_COUNT', `system file ${inodes.blkno(row)} has ${names} names`, inodes.blkno(row));
      continue;
    }
    const counted = inodes.entries(row) + (orphaned.get(inodes.blkno(row)) ?? 0), links = inodes.links(row);
    // The orphan's own "." still counts it; its removed entry does not. Linux sets nlink 0 for both kinds.
    const want = orphanSlot >= 0 ? 0 : counted;
    if (orphanSlot < 0 && counted === 0) findings.error('INODE_NOT_CONNECTED', `inode ${inodes.blkno(row)} is live but in no directory`, inodes.blkno(row));
    else if (links !== want) findings.error('INODE_COUNT', `inode ${inodes.blkno(row)} has link count ${links}, ${want} entries name it`, inodes.blkno(row));
    if (links > 0xffff && !inodes.isIndexed(row)) findings.error('INODE_COUNT', `inode ${inodes.blkno(row)} has ${links} links without an index`, inodes.blkno(row));
  }
}

function checkOrphan({ findings, inodes }: Checker, row: number, slot: number, flagged: boolean): void {
  const blkno = inodes.blkno(row);
  // Normal after a crash or while a file is open: recovery removes it.
  findings.add('recovery', 'INODE_ORPHANED', `inode ${blkno} waits in the orphan directory of ${slot < 0 ? 'no slot' : `slot ${slot}`} to be removed`, blkno);
  if (slot < 0) findings.error('INODE_NOT_CONNECTED', `inode ${blkno} is flagged orphaned but in no orphan directory`, blkno);
  else if (!flagged) findings.error('INODE_NOT_CONNECTED', `inode ${blkno} is in an orphan directory but not flagged`, blkno);
  else if (inodes.orphanedSlot(row) !== slot) findings.error('INODE_NOT_CONNECTED', `inode ${blkno} says orphan slot ${inodes.orphanedSlot(row)}, it is in that of slot ${slot}`, blkno);
}

function checkParent({ findings, inodes }: Checker, row: number, connected: Connected): void {
  const parent = inodes.parent(row), dotdot = inodes.dotdot(row);
  const name = (of: number) => (of < 0 ? 'nothing' : String(inodes.blkno(of)));
  const blkno = inodes.blkno(row);
  if (parent < 0) findings.error('DIR_NOT_CONNECTED', `directory ${blkno} is in no directory`, blkno);
  else if (dotdot !== parent) findings.error('DIR_DOTDOT', `directory ${blkno} is in ${name(parent)}, its ".." says ${name(dotdot)}`, blkno);
  else if (!connected.has(row)) findings.error('DIR_NOT_CONNECTED', `directory ${blkno} is in a loop`, blkno);
}

/** Which directories reach a root; each step up is taken once. */
class Connected {
  /** 1: does, 2: does not. */
  readonly #known: Uint8Array;

  constructor(private readonly inodes: InodeTable, roots: readonly number[]) {
    this.#known = new Uint8Array(inodes.rows);
    for (const row of roots) if (row >= 0) this.#known[row] = 1;
  }

  has(row: number): boolean {
    const way: number[] = [];
    let at = row;
    // A row on the way counts as lost until its end is known, so that a loop ends there.
    for (; at >= 0 && this.#known[at] === 0; at = this.inodes.parent(at)) {
      this.#known[at] = 2;
      way.push(at);
    }
    const reached = at >= 0 && this.#known[at] === 1;
    if (reached) for (const passed of way) this.#known[passed] = 1;
    return reached;
  }
}
