export * from './node-map.js';
export * from './ports.js';
