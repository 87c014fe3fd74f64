/** `lunfs lun`: LUNs as this host sees them. */
import type { Command } from 'commander';
import { check } from './check.js';
import { list } from './list.js';
import { show } from './show.js';

export function lun(program: Command): void {
  const group = program
    .command('lun')
    .summary('LUNs of this host: list, show, check')
    .description('LUNs as this host sees them: each once, with its paths folded into its multipath map, what is on it and who uses it. Nothing is written.')
    .helpCommand(false);
  for (const define of [list, show, check]) define(group);
}
