/**
 * The matrix: every block size, cluster size and set of features that mkfs.ocfs2 can combine. `npm test` takes a few cells
 * that cover each value at least once; `npm run matrix` (scripts/matrix.mjs) takes all of them, or those it is asked for, by
 * way of the environment (LUNFS_MATRIX_BLOCK, _CLUSTER, _FEATURES: lists; LUNFS_MATRIX_BIG=1: large populations).
 */
import type { MkfsOptions } from '../support/ocfs2-tools.js';

export const BLOCK_SIZES = [512, 1024, 2048, 4096] as const;
export const CLUSTER_SIZES = [4, 8, 16, 32, 64, 128, 256, 512, 1024].map((kib) => kib * 1024);

/** What mkfs.ocfs2 is told beside its defaults. */
export const FEATURES: Record<string, Pick<MkfsOptions, 'features' | 'level'>> = {
  default: {},
  all: { features: 'metaecc,refcount,xattr,indexed-dirs,discontig-bg,inline-data' },
  oldest: { level: 'max-compat' },
  'not-sparse': { features: 'nosparse,nounwritten' },
  'no-unwritten': { features: 'nounwritten' },
  'no-inline': { features: 'noinline-data' },
  'no-index': { features: 'noindexed-dirs' },
  'old-slots': { features: 'noextended-slotmap,nobackup-super' },
  'ecc-only': { features: 'metaecc,noindexed-dirs,noinline-data,nodiscontig-bg,norefcount,noxattr' },
};

export interface Cell {
  readonly name: string;
  readonly blockSize: number;
  readonly clusterSize: number;
  readonly features: string;
  /** Bytes of the volume. */
  readonly size: number;
}

function cell(blockSize: number, clusterSize: number, features: string, big = false): Cell {
  const name = `${blockSize}-${clusterSize >> 10}K-${features}`;
  // Sparse images: large populations need as many clusters, and blocks for as many inodes.
  return { name, blockSize, clusterSize, features, size: big ? 600_000 * clusterSize + 4 * 2 ** 30 : Math.max(120 << 20, 700 * clusterSize) };
}

const COVERING: readonly Cell[] = [
  cell(512, 4 << 10, 'all'), cell(512, 32 << 10, 'oldest'), cell(1024, 8 << 10, 'default'), cell(1024, 256 << 10, 'no-index'), cell(2048, 16 << 10, 'not-sparse'),
  cell(2048, 512 << 10, 'old-slots'), cell(4096, 4 << 10, 'ecc-only'), cell(4096, 64 << 10, 'no-unwritten'), cell(4096, 1 << 20, 'no-inline'),
];

/** Cells to be tested, and whether their populations are large. */
export function selectedCells(env: NodeJS.ProcessEnv): { cells: readonly Cell[]; big: boolean } {
  const big = env.LUNFS_MATRIX_BIG === '1';
  const chosen = (name: string) => env[`LUNFS_MATRIX_${name}`]?.split(',').filter(Boolean);
  const blocks = chosen('BLOCK'), clusters = chosen('CLUSTER'), features = chosen('FEATURES');
  if (blocks === undefined && clusters === undefined && features === undefined) return { cells: COVERING, big };
  const all = BLOCK_SIZES.flatMap((b) => CLUSTER_SIZES.flatMap((c) => Object.keys(FEATURES).map((f) => cell(b, c, f, big))));
  const cells = all.filter((one) => (blocks?.includes(String(one.blockSize)) ?? true) && (clusters?.includes(String(one.clusterSize)) ?? true) && (features?.includes(one.features) ?? true));
  if (cells.length === 0) throw new Error(`no cell of the matrix has block size ${blocks?.join(',')}, cluster size ${clusters?.join(',')} and features ${features?.join(',')}`);
  return { cells, big };
}
