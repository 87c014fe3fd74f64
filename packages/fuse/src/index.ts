export type * from './handler.js';
export { FALLOC, NAME_MAX, O, RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT_ID, SEEK_DATA, SEEK_HOLE } from './protocol/constants.js';
export { FuseMount, isStaleMount, mountFuse, unmount } from './mount.js';
export type { MountOptions } from './mount.js';
export { FuseSession } from './session/session.js';
export type { SessionOptions } from './session/session.js';
