/** Extent trees of any kind and depth. */
export { checkTree } from './check-tree.js';
export { type ExtentRec, TreeRoot, dinodeTree, dxTree, refcountTree, xattrTree, xattrValueTree } from './root.js';
export { type Extent, type Hole, insert, lastBefore, lookup, moveFirst, remap, removeRange, setFlags, treeEnd, walk } from './tree.js';
