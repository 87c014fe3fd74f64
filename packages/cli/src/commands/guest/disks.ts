/** `lunfs guest attach`, `detach`, `resize`: disks of a running guest. */
import type { Command } from 'commander';
import { examples } from '../../command.js';
import { guestsOf } from '../../guest-access.js';
import { print, printJson } from '../../output.js';
import { formatSize, parseSize } from '../../sizes.js';

export function attach(group: Command): void {
  group
    .command('attach')
    .summary('plug a disk into a running guest')
    .description('Plug a disk into a running guest. It stays until it is detached or the guest stops; put it into the definition for longer.')
    .argument('<name>', 'the guest')
    .argument('<id>', "the disk's name in the guest, also its serial number")
    .argument('<source>', 'DEVICE:/name.raw')
    .option('-r, --read-only', 'the guest cannot write to it')
    .option('--keep-space', 'a thick disk: TRIM and zeroes keep its space')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs guest attach web1 data /dev/mapper/lun0:/web1-data.raw'))
    .action(async (name: string, id: string, source: string, options: { readOnly?: boolean; keepSpace?: boolean; json?: boolean }, command: Command) => {
      const disk = await guestsOf(command).guests.attachDisk(name, { id, source, readOnly: options.readOnly, keepSpace: options.keepSpace });
      if (options.json) printJson(disk);
      else print(`${name}: disk ${disk.id} is ${disk.source}`);
    });
}

export function detach(group: Command): void {
  group
    .command('detach')
    .summary('unplug a disk from a running guest')
    .description('Unplug a disk from a running guest. The guest is asked and must let go of it: unmount it there before.')
    .argument('<name>', 'the guest')
    .argument('<id>', 'the disk')
    .addHelpText('after', examples('lunfs guest detach web1 data'))
    .action(async (name: string, id: string, _: object, command: Command) => {
      await guestsOf(command).guests.detachDisk(name, id);
    });
}

export function resize(group: Command): void {
  group
    .command('resize')
    .summary('make a disk of a running guest larger; the guest sees it at once')
    .argument('<name>', 'the guest')
    .argument('<id>', 'the disk')
    .argument('<size>', 'the new size', parseSize)
    .addHelpText('after', examples('lunfs guest resize web1 data 40G'))
    .action(async (name: string, id: string, size: number, _: object, command: Command) => {
      await guestsOf(command).guests.resizeDisk(name, id, size);
      print(`${name}: disk ${id} has ${formatSize(size)}`);
    });
}
