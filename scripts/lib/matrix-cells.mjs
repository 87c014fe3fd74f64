// The cells of the differential matrix (test/matrix): every block size, cluster size and set of features that mkfs.ocfs2 can
// combine. `npm test` takes COVERING and one larger population; `npm run matrix` (scripts/matrix.mjs) all, those chosen, or
// the BIG ones. A cell is all in its name, BLOCK-CLUSTER-FEATURES[-SCALE], which is how the runner tells the tests what to do.

export const BLOCK_SIZES = [512, 1024, 2048, 4096];
export const CLUSTER_SIZES = [4, 8, 16, 32, 64, 128, 256, 512, 1024].map((kib) => kib * 1024);

/**
 * What mkfs.ocfs2 is told beside its defaults (sparse, unwritten, inline data, indexed directories, extended slot map, xattr,
 * refcount, discontiguous groups, backup superblocks).
 * @type {Record<string, { features?: string, level?: 'max-compat' | 'max-features' }>}
 */
export const FEATURES = {
  'default': {},
  'max-features': { level: 'max-features' },
  'max-compat': { level: 'max-compat' },
  'not-sparse': { features: 'nosparse,nounwritten' },
  'no-unwritten': { features: 'nounwritten' },
  'no-inline': { features: 'noinline-data' },
  'no-index': { features: 'noindexed-dirs' },
  'old-slots': { features: 'noextended-slotmap,nobackup-super' },
  'no-discontig': { features: 'nodiscontig-bg,noappend-dio' },
  'xattr-only': { features: 'norefcount,nodiscontig-bg,metaecc' },
  'refcount-only': { features: 'noxattr,usrquota' },
  'quota': { features: 'usrquota,grpquota,noindexed-dirs' },
  'ecc-only': { features: 'metaecc,noindexed-dirs,noinline-data,nodiscontig-bg,norefcount,noxattr' },
};

/**
 * How much is put into a volume.
 * @typedef {object} Scale
 * @property {number} extents   records of the deep file
 * @property {number} entries   of the wide directory
 * @property {number} links     names of one file among them: every inode takes Linux its time under emulation
 * @property {number} xattrs
 * @property {number} clones    files that share clusters
 * @property {number} bytes     written per file, about
 */
/** @type {Record<'small' | 'medium' | 'big', Scale>} */
export const SCALES = {
  small: { extents: 600, entries: 300, links: 1, xattrs: 160, clones: 12, bytes: 1 << 20 },
  medium: { extents: 6_000, entries: 4_000, links: 1, xattrs: 1_000, clones: 150, bytes: 4 << 20 },
  big: { extents: 100_000, entries: 250_000, links: 10, xattrs: 6_000, clones: 3_000, bytes: 64 << 20 },
};

/**
 * @typedef {object} Cell
 * @property {string} name
 * @property {number} blockSize
 * @property {number} clusterSize
 * @property {string} features   key of FEATURES
 * @property {keyof typeof SCALES} scale
 * @property {number} size       bytes of the volume
 */

/** Clusters that the volumes of a scale have at least; images are sparse. */
const CLUSTERS = { small: 1100, medium: 60_000, big: 700_000 };
const LEAST_BYTES = { small: 100 << 20, medium: 600 << 20, big: 5 * 2 ** 30 };

/**
 * @param {number} blockSize
 * @param {number} clusterSize
 * @param {string} features
 * @param {keyof typeof SCALES} [scale]
 * @returns {Cell}
 */
export function cell(blockSize, clusterSize, features, scale = 'small') {
  const name = `${blockSize}-${clusterSize >> 10}K-${features}${scale === 'small' ? '' : `-${scale}`}`;
  return { name, blockSize, clusterSize, features, scale, size: Math.max(LEAST_BYTES[scale], CLUSTERS[scale] * clusterSize) };
}

/** @param {string} name */
export function cellNamed(name) {
  const match = /^(\d+)-(\d+)K-(.*?)(?:-(medium|big))?$/.exec(name);
  const [block, cluster] = match === null ? [0, 0] : [Number(match[1]), Number(match[2]) * 1024];
  if (match === null || !BLOCK_SIZES.includes(block) || !CLUSTER_SIZES.includes(cluster) || !Object.hasOwn(FEATURES, match[3])) throw new Error(`the matrix has no cell ${name}`);
  return cell(block, cluster, match[3], /** @type {keyof typeof SCALES} */ (match[4] ?? 'small'));
}

/**
 * The whole product in an order in which neighbours differ in every respect, so that any part of it shows something of everything.
 * @param {{ blocks?: number[], clusters?: number[], features?: string[], scale?: keyof typeof SCALES }} [chosen]
 */
export function allCells({ blocks = BLOCK_SIZES, clusters = CLUSTER_SIZES, features = Object.keys(FEATURES), scale } = {}) {
  const names = Object.keys(FEATURES);
  const cells = [];
  for (let turn = 0; turn < names.length; turn++) {
    for (const [k, clusterSize] of CLUSTER_SIZES.entries()) {
      for (const [b, blockSize] of BLOCK_SIZES.entries()) cells.push(cell(blockSize, clusterSize, names[(turn + BLOCK_SIZES.length * k + b) % names.length], scale));
    }
  }
  return cells.filter((one) => blocks.includes(one.blockSize) && clusters.includes(one.clusterSize) && features.includes(one.features));
}

/** Every size and set of features, and one population of the middle scale. */
export const COVERING = [
  cell(4096, 4 << 10, 'max-features', 'medium'),
  cell(512, 4 << 10, 'max-features'), cell(512, 32 << 10, 'max-compat'), cell(512, 1 << 20, 'xattr-only'), cell(1024, 8 << 10, 'default'), cell(1024, 256 << 10, 'no-index'),
  cell(1024, 64 << 10, 'refcount-only'), cell(2048, 16 << 10, 'not-sparse'), cell(2048, 512 << 10, 'old-slots'), cell(2048, 128 << 10, 'quota'),
  cell(4096, 4 << 10, 'ecc-only'), cell(4096, 64 << 10, 'no-unwritten'), cell(4096, 1 << 20, 'no-inline'), cell(4096, 8 << 10, 'no-discontig'), cell(4096, 1 << 20, 'max-features'),
];

export const BIG = [cell(4096, 4 << 10, 'max-features', 'big'), cell(1024, 4 << 10, 'default', 'big'), cell(4096, 64 << 10, 'default', 'big')];
