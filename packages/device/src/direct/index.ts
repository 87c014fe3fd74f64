export { Gate, type GateMemory } from './gate.js';
export { Fence, type FenceClock, NO_FENCE } from './fence.js';
export { monotonicMs, wallMs } from './clock.js';
export { DirectMap } from './direct-map.js';
export type { MappedRun, RangeStatus } from './export-backend.js';
export type { FileBackend } from './export-backend.js';
