export { Gate, GATE_BYTES } from './gate.js';
export { DirectMap } from './direct-map.js';
export type { MappedRun, RangeStatus } from './export-backend.js';
export type { FileBackend } from './export-backend.js';
