/** Feature sets of mkfs.ocfs2 1.8.7: levels, names, and what each feature needs (ocfs2-tools libocfs2/feature_string.c). */
import { UsageError } from '@lunfs/device';
import { COMPAT, INCOMPAT, RO_COMPAT } from '../format/index.js';

export interface FeatureSet {
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
}

export type FeatureLevel = 'default' | 'max-compat' | 'max-features';

const NONE: FeatureSet = { compat: 0, incompat: 0, roCompat: 0 };
const BASE = COMPAT.BACKUP_SB | COMPAT.JBD2_SB;
const DEFAULT_INCOMPAT = INCOMPAT.SPARSE_ALLOC | INCOMPAT.EXTENDED_SLOT_MAP | INCOMPAT.INLINE_DATA | INCOMPAT.XATTR
  | INCOMPAT.REFCOUNT_TREE | INCOMPAT.INDEXED_DIRS | INCOMPAT.DISCONTIG_BG | INCOMPAT.APPEND_DIO;

const LEVELS: Record<FeatureLevel, FeatureSet> = {
  'default': { compat: BASE, incompat: DEFAULT_INCOMPAT, roCompat: RO_COMPAT.UNWRITTEN },
  'max-compat': { compat: BASE, incompat: 0, roCompat: 0 },
  'max-features': { compat: BASE, incompat: DEFAULT_INCOMPAT | INCOMPAT.META_ECC, roCompat: RO_COMPAT.UNWRITTEN | RO_COMPAT.USRQUOTA | RO_COMPAT.GRPQUOTA },
};

/** Names that --fs-features takes, in the order of mkfs.ocfs2; `strict-journal-super` and others are shown but not chosen. */
const NAMES: Record<string, FeatureSet> = {
  'local': { ...NONE, incompat: INCOMPAT.LOCAL_MOUNT },
  'sparse': { ...NONE, incompat: INCOMPAT.SPARSE_ALLOC },
  'backup-super': { ...NONE, compat: COMPAT.BACKUP_SB },
  'unwritten': { ...NONE, roCompat: RO_COMPAT.UNWRITTEN },
  'extended-slotmap': { ...NONE, incompat: INCOMPAT.EXTENDED_SLOT_MAP },
  'inline-data': { ...NONE, incompat: INCOMPAT.INLINE_DATA },
  'metaecc': { ...NONE, incompat: INCOMPAT.META_ECC },
  'xattr': { ...NONE, incompat: INCOMPAT.XATTR },
  'indexed-dirs': { ...NONE, incompat: INCOMPAT.INDEXED_DIRS },
  'usrquota': { ...NONE, roCompat: RO_COMPAT.USRQUOTA },
  'grpquota': { ...NONE, roCompat: RO_COMPAT.GRPQUOTA },
  'refcount': { ...NONE, incompat: INCOMPAT.REFCOUNT_TREE },
  'discontig-bg': { ...NONE, incompat: INCOMPAT.DISCONTIG_BG },
  'clusterinfo': { ...NONE, incompat: INCOMPAT.CLUSTERINFO },
  'append-dio': { ...NONE, incompat: INCOMPAT.APPEND_DIO },
};

const union = (a: FeatureSet, b: FeatureSet): FeatureSet => ({ compat: a.compat | b.compat, incompat: a.incompat | b.incompat, roCompat: a.roCompat | b.roCompat });
const minus = (a: FeatureSet, b: FeatureSet): FeatureSet => ({ compat: a.compat & ~b.compat, incompat: a.incompat & ~b.incompat, roCompat: a.roCompat & ~b.roCompat });
const meets = (a: FeatureSet, b: FeatureSet): boolean => (a.compat & b.compat) !== 0 || (a.incompat & b.incompat) !== 0 || (a.roCompat & b.roCompat) !== 0;

/**
 * The features of a level with a list like `metaecc,nosparse` laid over it. Unwritten extents need sparse files: asking
 * for the one brings the other, refusing sparse refuses unwritten. Throws FEATURE_UNKNOWN, FEATURE_CONFLICT.
 */
export function resolveFeatures(level: FeatureLevel, list: string): FeatureSet {
  let wanted = NONE, refused = NONE;
  for (const token of list.split(',').filter((t) => t !== '')) {
    const off = token.startsWith('no');
    const feature = NAMES[off ? token.slice(2) : token];
    if (feature === undefined) throw new UsageError('FEATURE_UNKNOWN', 'EINVAL', `"${token}" is no feature; known are ${Object.keys(NAMES).join(', ')}, each also with "no" before it`, { feature: token });
    if (off) refused = union(refused, feature);
    else wanted = union(wanted, feature);
  }
  if (wanted.roCompat & RO_COMPAT.UNWRITTEN) wanted = union(wanted, NAMES.sparse);
  if (refused.incompat & INCOMPAT.SPARSE_ALLOC) refused = union(refused, NAMES.unwritten);
  if (meets(wanted, refused)) throw new UsageError('FEATURE_CONFLICT', 'EINVAL', `"${list}" asks for a feature and refuses it (unwritten needs sparse)`, { features: list });
  return minus(union(LEVELS[level], wanted), refused);
}

/** Names of the set's features, as mkfs.ocfs2 prints them. */
export function featureNames(set: FeatureSet): string[] {
  const names = Object.entries(NAMES).filter(([, feature]) => meets(set, feature)).map(([name]) => name);
  if (set.compat & COMPAT.JBD2_SB) names.push('strict-journal-super');
  return names;
}
