/** `lunfs disk rm`. */
import type { Command } from 'commander';
import { examples } from '../../command.js';
import { withDisks } from '../../disk-access.js';
import { byDevice, needTarget } from '../../target.js';

export function rm(group: Command): void {
  group
    .command('rm')
    .summary('remove disks')
    .argument('<target...>', 'DEVICE:/name.raw')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .addHelpText('after', examples('lunfs disk rm lun.img:/vm1.raw'))
    .action(async (texts: string[], options: { offline?: boolean }) => {
      for (const [device, paths] of byDevice(texts.map(needTarget))) {
        await withDisks('disk rm', device, { write: true, offline: options.offline }, async (disks) => {
          for (const path of paths) await disks.remove(path);
        });
      }
    });
}
