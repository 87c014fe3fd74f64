export type { DlmEvent, DomainState, RecoveryNodeState } from './core.js';
export { Dlm, type DlmDomain, type DlmOptions, type DomainOptions, domainKey } from './domain.js';
export type { DomainView, LockView, ResourceView } from './inspect.js';
export type { JoinFacts } from './join.js';
export type { ClientLock, ConvertOptions, LockEvents, LockOptions, LockResult } from './locks-client.js';
export { MESSAGES, type Codec, type Message, type MessageType, type NodeInfo, parseJoinReply } from './messages.js';
export { DLM_MODULE_KEY, type Level } from './status.js';
