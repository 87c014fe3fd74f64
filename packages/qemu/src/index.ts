/** QEMU guests on one host. */
export { proveAccel } from './accel.js';
export { type BootDefinition, type DiskDefinition, type GuestDefinition, type NicDefinition, parseDefinition, parseDisk } from './definition.js';
export { Definitions } from './definitions.js';
export { type DiskSource, type GuestFacts, Guests, type GuestsOptions, POWERDOWN_MS, type StopOptions } from './guests.js';
export type { BlockNode, Commands } from './qmp/commands.js';
export { type Expected, QmpClient } from './qmp/client.js';
export type { QmpEvent, QmpVersion } from './qmp/message.js';
export type { AttachedDisk, DiskEndpoint } from './run-files.js';
export type { DiskTrouble, GuestState, GuestStatus } from './state.js';
export { type Migrated, migrateGuest, type MigrationOptions, type MigrationProgress } from './migration.js';
export { moveGuest, type MoveOptions } from './move.js';
