export type { BlockDevice, BufferPool } from './block-device.js';
export * from './errors.js';
export { AlignedPool, PAGE, adoptAligned, alignedMemory, isAligned } from './aligned-pool.js';
export { DISCARD_FILL, MemoryDevice } from './memory-device.js';
export { checkRange, checkWritable } from './range-check.js';
export { FileDevice, type OpenedFile } from './file-device.js';
export { flock } from './helpers.js';
export { openDevice, type OpenOptions } from './open-device.js';
export { IoWorkerDevice, openIoWorkerDevice } from './io-worker-device.js';
export { openBy, parseMountInfo, type MountEntry, type OpenBy } from './claims.js';
export {
  blockDeviceFacts,
  deviceNumber,
  loopDevicesOf,
  type BlockDeviceFacts,
  type DeviceNumber,
  type Holder,
  type MapperName,
} from './sysfs.js';
export { PartitionWindow } from './partition-window.js';
export { readMany, runsOf, writeMany, type Piece, type Run } from './batch.js';
export { Random } from './random.js';
export * from './testing/index.js';
export * from './direct/index.js';
