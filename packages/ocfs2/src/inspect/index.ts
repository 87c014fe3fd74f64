/** Looking at a volume without mounting it. */
export { type ExtentRecord, type RawDirent, RawReader, readGeometry } from './raw-reader.js';
export { readSystemFiles, systemFileNames } from './system-files.js';
export { type RawXattr, type XattrStorage, listXattrs, storageEntries, valueExtents, xattrStorages, xattrValue } from './xattrs.js';
export { ACL_TAG, ACL_XATTR_TYPES, type AclEntry, aclToXattr, parseAcl } from './acl.js';
