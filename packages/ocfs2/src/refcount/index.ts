/** Refcount trees: shared clusters, how often they are referred to, and by how many inodes. */
export { commonRefTree, ensureRefTree, hasRefTree, leaveRefTree } from './members.js';
export { isAlone } from './pending.js';
export { shareRecord } from './share.js';
export { type RefTree, addRefs, countOf, dropRefs, openRefTree } from './tree.js';
