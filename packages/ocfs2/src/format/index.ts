/** The on-disk format: codecs and checks, no I/O. */
export * from './block.js';
export * from './constants.js';
export * from './structs.js';
export * from './lists.js';
export * from './blockcheck.js';
export * from './dirhash.js';
export * from './geometry.js';
export * from './kinds.js';
export * from './quota.js';
