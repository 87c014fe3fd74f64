/** The control plane, and its client. */
export { ControlClient, type AskOptions } from './client.js';
export { Control, type ClientContext, type ControlOptions } from './control.js';
export type { EventFacts } from './api/events.js';
export type { TokenFacts, TokenMadeFacts, UserFacts } from './api/users.js';
export type { TaskFacts } from './tasks/task.js';
