/** `lunfs quota set`: limits of a user or a group. */
import type { Command } from 'commander';
import type { QuotaLimits } from '@lunfs/ocfs2';
import { examples } from '../../command.js';
import { print, printJson } from '../../output.js';
import { idOf, named, withQuota } from '../../quota-access.js';
import { formatSize, parseNumber, parseSize } from '../../sizes.js';

interface Options {
  user?: string;
  group?: string;
  blockSoft?: number;
  blockHard?: number;
  inodeSoft?: number;
  inodeHard?: number;
  offline?: boolean;
  json?: boolean;
}

export function set(group: Command): void {
  group
    .command('set')
    .summary('set limits of a user or a group')
    .description('Set limits; those not named stay, 0 takes one away. A hard limit is never passed; a soft one may be, for the grace period. Root is not limited.')
    .argument('<where>', 'the device, or the directory it is mounted on')
    .option('-u, --user <user>', 'name or number')
    .option('-g, --group <group>', 'name or number')
    .option('--block-soft <size>', 'soft limit of space', parseSize)
    .option('--block-hard <size>', 'hard limit of space', parseSize)
    .option('--inode-soft <count>', 'soft limit of inodes', parseNumber)
    .option('--inode-hard <count>', 'hard limit of inodes', parseNumber)
    .option('--offline', 'a volume of a cluster that nobody has mounted')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs quota set /dev/mapper/lun0 -u alice --block-soft 8G --block-hard 10G', 'lunfs quota set /mnt -g 100 --inode-hard 0'))
    .action(async (where: string, options: Options) => {
      const { type, id } = idOf(options);
      const limits = named<QuotaLimits>(
        { spaceSoft: options.blockSoft, spaceHard: options.blockHard, inodeSoft: options.inodeSoft, inodeHard: options.inodeHard },
        'name a limit: --block-soft, --block-hard, --inode-soft or --inode-hard',
      );
      await withQuota('quota set', where, { write: true, offline: options.offline }, async (quota) => {
        const record = await quota.setLimits(type, id, limits);
        const space = (value: number) => (value === 0 ? 'none' : formatSize(value));
        const count = (value: number) => (value === 0 ? 'none' : String(value));
        if (options.json) printJson({ type, ...record });
        else print(`${type} ${id}: space ${space(record.spaceSoft)} soft, ${space(record.spaceHard)} hard; inodes ${count(record.inodeSoft)} soft, ${count(record.inodeHard)} hard`);
      });
    });
}
