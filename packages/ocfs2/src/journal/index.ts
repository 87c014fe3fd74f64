/** The journal: log format, replay, and the write-ahead log of a mount. */
export { BlockMap, type BlockRun } from './block-map.js';
export { Journal, type JournalOptions, type Timers } from './journal.js';
export { JournalInode } from './journal-inode.js';
export { type LogImage, LogReader, type LogTransaction, type ReplayResult, replayJournal } from './replay.js';
