/** User and group quota. */
export { Quota, type QuotaRecord, type QuotaSettings } from './quota.js';
export type { QuotaLimits } from './limits.js';
export { type Requester, asRequester } from './requester.js';
