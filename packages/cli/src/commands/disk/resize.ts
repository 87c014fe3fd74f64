/** `lunfs disk resize`. */
import type { Command } from 'commander';
import { examples } from '../../command.js';
import { withDisks } from '../../disk-access.js';
import { print, printJson } from '../../output.js';
import { formatSize, parseSize } from '../../sizes.js';
import { needTarget } from '../../target.js';

export function resize(group: Command): void {
  group
    .command('resize')
    .summary('change the size of a disk')
    .description('Change the size of a disk. What is added reads zero and takes space as it is written. Clients of an export see the new size when they connect anew.')
    .argument('<target>', 'DEVICE:/name.raw')
    .argument('<size>', 'the new size, or +SIZE to add', (text: string) => ({ add: text.startsWith('+'), bytes: parseSize(text.replace(/^\+/, '')) }))
    .option('--shrink', 'make it smaller, destroying what lies behind the new end')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk resize lun.img:/vm1.raw 40G', 'lunfs disk resize lun.img:/vm1.raw +10G'))
    .action(async (text: string, size: { add: boolean; bytes: number }, options: { shrink?: boolean; offline?: boolean; json?: boolean }) => {
      const { device, path } = needTarget(text);
      await withDisks('disk resize', device, { write: true, offline: options.offline }, async (disks) => {
        const base = size.add ? (await disks.info(path)).size : 0;
        const made = await disks.resize(path, base + size.bytes, options.shrink ?? false);
        if (options.json) printJson(made);
        else print(`${device}:${made.path}: ${formatSize(made.size)}, ${formatSize(made.allocated)} allocated`);
      });
    });
}
