export { Quorum, type QuorumVote, verdict } from './quorum.js';
