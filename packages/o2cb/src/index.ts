export { hostScheduler } from './clock.js';
export * from './config/index.js';
export * from './dlm/index.js';
export * from './heartbeat/index.js';
export * from './net/index.js';
export * from './node-map.js';
export * from './ports.js';
export * from './quorum/index.js';
