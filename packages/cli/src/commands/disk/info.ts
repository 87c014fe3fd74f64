/** `lunfs disk info`. */
import type { Command } from 'commander';
import { examples } from '../../command.js';
import { showUse, useOf, withDisks } from '../../disk-access.js';
import { facts, print, printJson } from '../../output.js';
import { formatSize, formatTime } from '../../sizes.js';
import { needTarget } from '../../target.js';
import { extentTable } from '../stat.js';

export function info(group: Command): void {
  group
    .command('info')
    .summary('show a disk, its extents, and the lines to use it')
    .argument('<target>', 'DEVICE:/name.raw')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk info /dev/mapper/lun0:/vm1.raw'))
    .action(async (text: string, options: { json?: boolean }) => {
      const { device, path } = needTarget(text);
      await withDisks('disk info', device, { write: false }, async (disks) => {
        const found = await disks.info(path);
        const use = useOf(device, path, disks.facts);
        if (options.json) {
          printJson({ ...found, ...use });
          return;
        }
        print(facts([
          ['Disk', `${device}:${found.path}`], ['Inode', found.inode], ['Size', `${found.size} (${formatSize(found.size)})`], ['Allocated', formatSize(found.allocated)],
          ['Written', formatSize(found.written)], ['Shared', found.shared > 0 ? formatSize(found.shared) : undefined], ['Modified', formatTime(found.modified)], ['Extents', found.extents.length],
        ]));
        print(`\n${extentTable(found.extents)}\n\n${showUse(use)}`);
      });
    });
}
