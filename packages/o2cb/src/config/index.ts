export * from './cluster-conf.js';
export * from './files.js';
export * from './settings.js';
export * from './timeouts.js';
