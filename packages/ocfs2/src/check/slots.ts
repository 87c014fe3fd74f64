/** The slot map: who says that he has the volume mounted (ondisk-format.md 10.1). A state, not damage; but only nodes can say so. */
import type { SystemFiles } from '../context.js';
import { SlotMap } from '../volume/slot-map.js';
import type { Checker } from './checker.js';

/** Nodes of a cluster have numbers below this (Linux 6.1 fs/ocfs2/cluster/ocfs2_nodemanager.h:O2NM_MAX_NODES). */
const MAX_NODES = 255;

export async function checkSlots(c: Checker, sys: SystemFiles): Promise<void> {
  const map = await c.guard('SLOT_MAP_INVALID', 'slot map', () => SlotMap.read(c.reader, sys.slotMap));
  for (const { slot, node } of map?.taken() ?? []) {
    if (node < MAX_NODES) c.findings.add('recovery', 'SLOT_IN_USE', `slot ${slot} is taken by node ${node}: it has the volume mounted, or did not unmount it`, sys.slotMap);
    else c.findings.error('SLOT_MAP_INVALID', `slot ${slot} is taken by node ${node}; nodes have numbers below ${MAX_NODES}`, sys.slotMap);
  }
}
