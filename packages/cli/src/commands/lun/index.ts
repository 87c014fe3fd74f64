/** `lunfs lun`: LUNs as this host sees them. */
import type { Command } from 'commander';
import { check } from './check.js';
import { growPartition } from './grow-partition.js';
import { list } from './list.js';
import { rescan } from './rescan.js';
import { show } from './show.js';

export function lun(program: Command): void {
  const group = program
    .command('lun')
    .summary('LUNs of this host: list, show, check, rescan, grow-partition')
    .description('LUNs as this host sees them: each once, with its paths folded into its multipath map, what is on it and who uses it.')
    .helpCommand(false);
  for (const define of [list, show, check, rescan, growPartition]) define(group);
}
