/** `lunfs disk create`. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import type { CreateDiskOptions } from '@lunfs/host';
import { examples } from '../../command.js';
import { showUse, useOf, withDisks } from '../../disk-access.js';
import { print, printJson } from '../../output.js';
import { Progress } from '../../progress.js';
import { formatSize, parseSize } from '../../sizes.js';
import { needTarget } from '../../target.js';

interface Options {
  size?: number;
  thick?: boolean;
  zeroed?: boolean;
  offline?: boolean;
  quiet?: boolean;
  json?: boolean;
}

export function create(group: Command): void {
  group
    .command('create')
    .summary('make a disk')
    .description('Make a disk. A thin one takes space as it is written; a thick one has all of it at once, contiguous where it can be; a zeroed one is written through, too, so that no write of the guest ever changes metadata.')
    .argument('<target>', 'DEVICE:/name.raw')
    .argument('[size]', 'such as 20G', parseSize)
    .option('-s, --size <size>', 'the same as an option', parseSize)
    .option('--thin', 'take space as it is written (default)')
    .option('--thick', 'take all space at once')
    .option('--zeroed', 'thick, and written through with zeros')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .option('-q, --quiet', 'print nothing')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk create /dev/mapper/lun0:/vm1.raw 20G', 'lunfs disk create --thick lun.img:/db.raw 100G'))
    .action(async (text: string, sizeArgument: number | undefined, options: Options & { thin?: boolean }) => {
      const { device, path } = needTarget(text);
      const size = sizeArgument ?? options.size;
      if (size === undefined) throw new UsageError('BAD_ARGUMENTS', 'EINVAL', `how large? Give a size: lunfs disk create ${text} 20G`, {});
      if (options.thin && (options.thick || options.zeroed)) throw new UsageError('BAD_OPTION', 'EINVAL', 'a disk is either thin or thick', {});
      const allocation: CreateDiskOptions['allocation'] = options.zeroed ? 'thick-zeroed' : options.thick ? 'thick-unwritten' : 'thin';
      const progress = new Progress('disk create', 'bytes', options.quiet);
      await withDisks('disk create', device, { write: true, offline: options.offline }, async (disks) => {
        const made = await disks.create(path, { size, allocation, progress: (done, total) => progress.tell('allocated', done, total) }).finally(() => progress.end());
        const use = useOf(device, path, disks.facts);
        if (options.json) printJson({ ...made, allocation, ...use });
        else if (!options.quiet) print(`${device}:${made.path}: ${formatSize(made.size)}, ${allocation}, ${formatSize(made.allocated)} allocated\n\n${showUse(use)}`);
      });
    });
}
