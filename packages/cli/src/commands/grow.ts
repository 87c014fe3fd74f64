/** `lunfs grow`: a volume becomes as large as its device, in use or not. */
import type { Command } from 'commander';
import { mountedDevice } from '@lunfs/host';
import type { GrowOptions, Growth, GrowthPlan } from '@lunfs/ocfs2';
import { examples } from '../command.js';
import { throughProcess } from '../mounted.js';
import { print, printJson, table } from '../output.js';
import { Progress } from '../progress.js';
import { formatSize, parseSize } from '../sizes.js';
import { needDevice } from '../target.js';
import { withReader, withWriter } from '../volume-access.js';

interface Options {
  size?: number;
  dryRun?: boolean;
  offline?: boolean;
  rescan?: boolean;
  quiet?: boolean;
  json?: boolean;
}

/** A volume, or the process that has it. */
interface Grower {
  grow(options: GrowOptions): Promise<Growth>;
  planGrowth(options: GrowOptions): Promise<GrowthPlan>;
}

export function grow(program: Command): void {
  program
    .command('grow')
    .summary('enlarge a volume to its device\'s new size')
    .description('Enlarge a volume to the new size of its device, while it is mounted: by lunfs hosts and by kernel nodes, with guests running. First enlarge the LUN and rescan it on every host. Interrupted, it can be run again.')
    .argument('<where>', 'block device or image file, or the directory it is mounted on')
    .option('-s, --size <size>', 'the size to grow to (default: all of the device)', parseSize)
    .option('-n, --dry-run', 'list every block that would be changed, and change nothing')
    .option('--rescan', 'first see the new size of the LUN on every path of this host, as "lunfs lun rescan" does')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .option('-q, --quiet', 'print nothing')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs grow /dev/mapper/lun0', 'lunfs grow --rescan /dev/mapper/lun0', 'lunfs grow --dry-run /dev/mapper/lun0', 'lunfs grow --size 64G /mnt'))
    .action(async (where: string, options: Options) => {
      const device = mountedDevice(where) ?? needDevice(where);
      const { size, quiet, json } = options;
      if (options.rescan) await see(device, quiet === true || json === true);
      if (options.dryRun) {
        const plan = await withGrower(device, options, (volume) => volume.planGrowth({ size }));
        if (json) printJson({ device, ...inBytes(plan), ...plan });
        else showPlan(device, plan);
        return;
      }
      const progress = new Progress('grow', 'clusters', quiet);
      const made = await withGrower(device, options, (volume) => volume.grow({ size, progress: (done, total) => progress.tell('added', done, total) })).finally(() => progress.end());
      if (json) printJson({ device, ...inBytes(made), ...made });
      else if (!quiet) print(`${device}: ${summary(made)}`);
    });
}

/** Of this host alone: others that do not see the new end yet are named by the growth itself, or fail what leads behind it. */
async function see(device: string, quiet: boolean): Promise<void> {
  const { rescanDevice, rescanText } = await import('./lun/rescan.js');
  const seen = await rescanDevice('grow', device);
  if (!quiet) print(rescanText(seen));
}

function withGrower<T>(device: string, options: Options, work: (volume: Grower) => Promise<T>): Promise<T> {
  return throughProcess(device, work, () => (options.dryRun ? withReader('grow', device, {}, work) : withWriter('grow', device, options, work)));
}

function inBytes({ from, to, clusterSize }: Growth): { fromBytes: number; toBytes: number } {
  return { fromBytes: from * clusterSize, toBytes: to * clusterSize };
}

function summary(growth: Growth): string {
  const { fromBytes, toBytes } = inBytes(growth);
  if (growth.from === growth.to) return `${formatSize(toBytes)}, as large as it can be`;
  const copies = growth.backups.length === 0 ? '' : `, ${growth.backups.length} backup superblock${growth.backups.length > 1 ? 's' : ''}`;
  return `from ${formatSize(fromBytes)} to ${formatSize(toBytes)}: ${growth.to - growth.from} clusters, ${growth.groupsAdded} groups${copies}`;
}

function showPlan(device: string, plan: GrowthPlan): void {
  print(`${device}: ${summary(plan)}`);
  if (plan.blocks.length === 0) return;
  print('');
  print(table(['>Block', '>Count', 'What'], plan.blocks.map(({ blkno, count, what }) => [String(blkno), String(count), what])));
}
