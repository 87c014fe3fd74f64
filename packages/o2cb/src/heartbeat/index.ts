export { FenceDeadline, type FenceGrant, type FenceState } from './fence-deadline.js';
