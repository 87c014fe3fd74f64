export type * from './handler.js';
