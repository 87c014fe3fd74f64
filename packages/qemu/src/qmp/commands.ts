/**
 * The commands that we send, with their arguments as QEMU names them. A test compares all that was sent with the schema of the QEMU that is
 * installed (query-qmp-schema), so this table cannot promise what QEMU does not take.
 */
import type { JsonObject } from './message.js';

/** Arguments by command; `Record<never, never>`: none. */
export interface Commands {
  qmp_capabilities: None;
  'query-qmp-schema': None;
  'query-status': None;
  'query-block': None;
  'query-named-block-nodes': { readonly flat: boolean };
  'query-migrate': None;
  'qom-get': { readonly path: string; readonly property: string };
  stop: None;
  cont: None;
  system_powerdown: None;
  system_reset: None;
  quit: None;
  'blockdev-add': BlockNode;
  'blockdev-reopen': { readonly options: readonly BlockNode[] };
  'blockdev-del': { readonly 'node-name': string };
  block_resize: { readonly 'node-name': string; readonly size: number };
  device_add: JsonObject & { readonly driver: string; readonly id: string };
  device_del: { readonly id: string };
  'migrate-set-capabilities': { readonly capabilities: readonly { readonly capability: string; readonly state: boolean }[] };
  'migrate-set-parameters': { readonly 'downtime-limit'?: number; readonly 'max-bandwidth'?: number };
  migrate: { readonly uri: string };
  'migrate-incoming': { readonly uri: string };
  'migrate-continue': { readonly state: 'pre-switchover' };
  migrate_cancel: None;
}

type None = Record<never, never>;

export type BlockNode = JsonObject & { readonly driver: string; readonly 'node-name': string };
