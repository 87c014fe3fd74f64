/** `lunfs quota`: what users and groups use of a volume, and may use. */
import type { Command } from 'commander';
import { grace } from './grace.js';
import { report } from './report.js';
import { set } from './set.js';

export function quota(program: Command): void {
  const group = program
    .command('quota')
    .summary('user and group quota: report, set, grace')
    .description('What users and groups use of a volume and may use, on volumes made with the features usrquota and grpquota. Given the device or the directory it is mounted on; also works while it is mounted or exported on this host.')
    .helpCommand(false);
  for (const define of [report, set, grace]) define(group);
}
