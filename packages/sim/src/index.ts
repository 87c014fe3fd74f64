/** The simulator. */
export { FAULT_KINDS, type FaultKind } from './faults.js';
export { type SimulationOptions, type SimulationResult, simulate } from './simulation.js';
