/** The allocation state of a mount, and the default size of its local alloc window. */
import type { FsContext } from '../context.js';
import { capacity, type Geometry } from '../format/index.js';
import { AllocState } from './state.js';

const states = new WeakMap<FsContext, AllocState>();

/** The one allocation state of a context. */
export function allocState(ctx: FsContext): AllocState {
  let state = states.get(ctx);
  if (state === undefined) states.set(ctx, (state = new AllocState(ctx, defaultWindow(ctx.geo))));
  return state;
}

/** A window is kept to this many MiB where groups are large. */
const MOST_MIB = 256;

/** Default clusters of a local alloc window (Linux 6.1 fs/ocfs2/localalloc.c:ocfs2_la_default_mb). */
export function defaultWindow(geo: Geometry): number {
  const shift = 20 - geo.clusterBits;
  const mib = (clusters: number) => Math.floor(clusters / 2 ** shift);
  if ((geo.blockSize === 512 && geo.clusterSize <= 8192) || (geo.blockSize === 1024 && geo.clusterSize === 4096)) return 8 * 2 ** shift;
  const groupMib = (mib(geo.clustersPerGroup) - 16) & ~4;
  let size = groupMib;
  if (groupMib > 2 * MOST_MIB) size = MOST_MIB;
  else while (size > MOST_MIB) size >>= 1;
  size = Math.min(size, mib(Math.floor(geo.totalClusters / geo.maxSlots)), mib(capacity.localAllocBytes(geo.blockSize) * 8));
  return size * 2 ** shift;
}
