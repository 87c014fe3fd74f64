/** Looking at a volume without mounting it. */
export { type ExtentRecord, type RawDirent, RawReader, readGeometry } from './raw-reader.js';
export { readSystemFiles, systemFileNames } from './system-files.js';
export { listXattrs, xattrStorages, xattrValue } from './xattrs.js';
