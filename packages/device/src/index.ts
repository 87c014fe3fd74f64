export type { BlockDevice } from './block-device.js';
export * from './errors.js';
export { MemoryDevice, checkRange, checkWritable } from './memory-device.js';
export * from './direct/index.js';
