/** Extended attributes: their storages, POSIX ACLs, what an inode's life does with them. */
export { ACL_TAG, type AclEntry, aclAfterChmod, aclForNew, aclFromXattr, aclMode, aclToXattr, encodeAcl, parseAcl } from './acl.js';
export { XATTR_VALUE_MAX, type XattrItem, isLocal, xattrText } from './entries.js';
export { XATTR_TYPE, type XattrName, fullXattrName, isAcl, parseXattrName } from './names.js';
export { type FoundXattr, findXattr, listXattr, readValue } from './read.js';
export { cloneXattr } from './share.js';
export { type XattrSetMode, dropXattr, noXattr, putXattr } from './write.js';
export { xattrWipe } from './wipe.js';
