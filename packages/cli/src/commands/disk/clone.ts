/** `lunfs disk clone`. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { examples } from '../../command.js';
import { showUse, useOf, withDisks } from '../../disk-access.js';
import { print, printJson } from '../../output.js';
import { formatSize } from '../../sizes.js';
import { needTarget } from '../../target.js';

interface Options {
  offline?: boolean;
  quiet?: boolean;
  json?: boolean;
}

export function clone(group: Command): void {
  group
    .command('clone')
    .summary('clone a disk, or take a snapshot of it, at once')
    .description('Clone a disk: the new one has the bytes of this moment and shares their space until one of both writes there. Of a disk in use by a guest the clone is what a power failure would leave; keep it as a snapshot, or start another guest from it.')
    .argument('<source>', 'DEVICE:/name.raw')
    .argument('<target>', 'DEVICE:/clone.raw, or /clone.raw')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .option('-q, --quiet', 'print nothing')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk clone /dev/mapper/lun0:/golden.raw /vm7.raw', 'lunfs disk clone lun.img:/vm1.raw lun.img:/vm1-before-upgrade.raw'))
    .action(async (from: string, to: string, options: Options) => {
      const source = needTarget(from);
      const target = to.startsWith('/') ? { device: source.device, path: to } : needTarget(to);
      if (target.device !== source.device) throw new UsageError('BAD_ARGUMENTS', 'EINVAL', `${from} and ${to} are not on one device: only disks of one volume share space; copy it with "lunfs cp"`, {});
      await withDisks('disk clone', source.device, { write: true, offline: options.offline }, async (disks) => {
        const made = await disks.clone(source.path, target.path);
        const use = useOf(target.device, target.path, disks.facts);
        if (options.json) printJson({ ...made, source: source.path, ...use });
        else if (!options.quiet) print(`${target.device}:${made.path}: ${formatSize(made.size)}, a clone of ${source.path}\n\n${showUse(use)}`);
      });
    });
}
