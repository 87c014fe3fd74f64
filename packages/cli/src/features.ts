/** Feature bits of a superblock by the names that ocfs2-tools give them. */
import { COMPAT, type Geometry, INCOMPAT, RO_COMPAT } from '@lunfs/ocfs2';

type Names = readonly (readonly [bit: number, name: string])[];

const COMPAT_NAMES: Names = [[COMPAT.BACKUP_SB, 'backup-super'], [COMPAT.JBD2_SB, 'strict-journal-super']];
const INCOMPAT_NAMES: Names = [
  [INCOMPAT.HEARTBEAT_DEV, 'heartbeat'], [INCOMPAT.RESIZE_INPROG, 'aborted-resize'], [INCOMPAT.LOCAL_MOUNT, 'local'], [INCOMPAT.SPARSE_ALLOC, 'sparse'],
  [INCOMPAT.TUNEFS_INPROG, 'aborted-tunefs'], [INCOMPAT.INLINE_DATA, 'inline-data'], [INCOMPAT.USERSPACE_STACK, 'userspace-stack'],
  [INCOMPAT.EXTENDED_SLOT_MAP, 'extended-slotmap'], [INCOMPAT.XATTR, 'xattr'], [INCOMPAT.INDEXED_DIRS, 'indexed-dirs'], [INCOMPAT.META_ECC, 'metaecc'],
  [INCOMPAT.REFCOUNT_TREE, 'refcount'], [INCOMPAT.DISCONTIG_BG, 'discontig-bg'], [INCOMPAT.CLUSTERINFO, 'clusterinfo'], [INCOMPAT.APPEND_DIO, 'append-dio'],
];
const RO_COMPAT_NAMES: Names = [[RO_COMPAT.UNWRITTEN, 'unwritten'], [RO_COMPAT.USRQUOTA, 'usrquota'], [RO_COMPAT.GRPQUOTA, 'grpquota']];

/** Names of the set bits; what has no name is shown as `0x…`. */
function namesOf(bits: number, table: Names): string[] {
  const names = table.filter(([bit]) => bits & bit).map(([, name]) => name);
  const unknown = table.reduce((rest, [bit]) => rest & ~bit, bits) >>> 0;
  return unknown === 0 ? names : [...names, `0x${unknown.toString(16)}`];
}

export function volumeFeatures({ compat, incompat, roCompat }: Pick<Geometry, 'compat' | 'incompat' | 'roCompat'>): { compat: string[]; incompat: string[]; roCompat: string[] } {
  return { compat: namesOf(compat, COMPAT_NAMES), incompat: namesOf(incompat, INCOMPAT_NAMES), roCompat: namesOf(roCompat, RO_COMPAT_NAMES) };
}
