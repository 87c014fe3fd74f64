/** Passes 3 and 4: every directory hangs in the tree, link counts are true, orphans are where they say. */
import { DYN, FL, MODE, S_IFMT } from '../format/constants.js';
import type { SystemFiles } from '../context.js';
import type { Checker } from './checker.js';
import type { LinkCounts } from './directories.js';

export function checkLinks(c: Checker, links: LinkCounts, sys: SystemFiles): void {
  const { findings, geo } = c;
  const isDir = (mode: number) => (mode & S_IFMT) === MODE.DIR;
  const root = c.inodes.get(geo.rootBlkno);
  if (!root) findings.error('ROOT_DIR_MISSING', `the root directory ${geo.rootBlkno} is no live inode`, geo.rootBlkno);
  else if (!isDir(root.mode)) findings.error('ROOT_NOTDIR', `the root ${geo.rootBlkno} is no directory`, geo.rootBlkno);
  for (const slot of sys.orphanDir) if (!c.inodes.has(slot)) findings.error('ORPHAN_DIR_MISSING', `orphan directory ${slot} is no live inode`, slot);

  for (const inode of c.inodes.values()) {
    const { blkno } = inode;
    const orphanDir = links.orphans.get(blkno);
    const flagged = (inode.flags & FL.ORPHANED) !== 0;
    if (orphanDir !== undefined || flagged) {
      // Normal after a crash or while a file is open: recovery removes it.
      findings.add('recovery', 'INODE_ORPHANED', `inode ${blkno} waits in orphan directory ${orphanDir ?? '(none)'} to be removed`, blkno);
      if (orphanDir === undefined || !flagged) findings.error('INODE_NOT_CONNECTED', `inode ${blkno} ${flagged ? 'is flagged orphaned but in no orphan directory' : 'is in an orphan directory but not flagged'}`, blkno);
      else if (sys.orphanDir[inode.orphanedSlot] !== orphanDir) findings.error('INODE_NOT_CONNECTED', `inode ${blkno} says orphan slot ${inode.orphanedSlot}, it is in directory ${orphanDir}`, blkno);
    }
    const isRoot = blkno === geo.rootBlkno || blkno === geo.systemDirBlkno;
    if (isDir(inode.mode) && !isRoot && orphanDir === undefined) {
      const parent = links.parents.get(blkno);
      if (parent === undefined) findings.error('DIR_NOT_CONNECTED', `directory ${blkno} is in no directory`, blkno);
      else if (links.dotdot.get(blkno) !== parent) findings.error('DIR_DOTDOT', `directory ${blkno} is in ${parent}, its ".." says ${links.dotdot.get(blkno)}`, blkno);
      else if (!reaches(links, blkno, geo.rootBlkno, geo.systemDirBlkno)) findings.error('DIR_NOT_CONNECTED', `directory ${blkno} is in a loop`, blkno);
    }
    if (inode.system && !isDir(inode.mode)) continue;
    const counted = links.links.get(blkno) ?? 0;
    // The orphan's own "." still counts it; its removed entry does not. Linux sets nlink 0 for both kinds.
    const want = orphanDir !== undefined ? 0 : counted;
    if (orphanDir === undefined && counted === 0) findings.error('INODE_NOT_CONNECTED', `inode ${blkno} is live but in no directory`, blkno);
    else if (inode.links !== want) findings.error('INODE_COUNT', `inode ${blkno} has link count ${inode.links}, ${want} entries name it`, blkno);
    if (inode.links > 0xffff && !(inode.dynFeatures & DYN.INDEXED_DIR)) findings.error('INODE_COUNT', `inode ${blkno} has ${inode.links} links without an index`, blkno);
  }
}

function reaches(links: LinkCounts, from: number, ...roots: number[]): boolean {
  const seen = new Set<number>();
  for (let at: number | undefined = from; at !== undefined && !seen.has(at); at = links.parents.get(at)) {
    if (roots.includes(at)) return true;
    seen.add(at);
  }
  return false;
}
