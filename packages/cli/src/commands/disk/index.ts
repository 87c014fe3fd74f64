/** `lunfs disk`: virtual machine disks, which are files of a volume. */
import type { Command } from 'commander';
import { clone } from './clone.js';
import { create } from './create.js';
import { exportDisk } from './export.js';
import { handover } from './handover.js';
import { info } from './info.js';
import { lease } from './lease.js';
import { ls } from './ls.js';
import { resize } from './resize.js';
import { rm } from './rm.js';
import { unexport } from './unexport.js';

export function disk(program: Command): void {
  const group = program
    .command('disk')
    .summary('virtual machine disks: create, clone, ls, info, resize, rm, export, unexport, lease, handover')
    .description('Virtual machine disks: files of a volume, by convention named NAME.raw. All of it also works while the volume is mounted or exported on this host.')
    .helpCommand(false);
  for (const define of [create, clone, ls, info, resize, rm, exportDisk, unexport, lease, handover]) define(group);
}
