/** `lunfs lun grow-partition`: a GPT partition takes the space that its LUN has gained. */
import * as fs from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { type BlockDevice, UsageError } from '@lunfs/device';
import { probeVolume } from '@lunfs/ocfs2';
import { growPartition as grow, thisHost } from '@lunfs/san';
import { examples } from '../../command.js';
import { print, printJson, table } from '../../output.js';
import { formatSize, parseNumber } from '../../sizes.js';
import { needDevice } from '../../target.js';

interface Options {
  number?: number;
  save?: string;
  dryRun?: boolean;
  json?: boolean;
}

export function growPartition(group: Command): void {
  group
    .command('grow-partition')
    .summary('let the GPT partition of a volume take the space that its LUN has gained')
    .description('Rewrite one entry of a GPT partition table so that the partition of a volume ends where the LUN does, its start untouched; mounted or not. The volume has to be found at the same byte before and after; both tables are saved to a file first ("sgdisk --load-backup" restores them). First "lun rescan", afterwards "grow". Other hosts: rescan, then partx -u or kpartx -u.')
    .argument('<device>', 'the partition, or the LUN or image file it is on')
    .option('--number <n>', 'which partition (default: the one that was named, or the only one)', parseNumber)
    .option('--save <file>', 'new file for the tables as they were (default: lunfs-gpt-GUID.bin in this directory)')
    .option('-n, --dry-run', 'show what would be changed, and change nothing')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs lun grow-partition --dry-run /dev/mapper/mpatha-part1', 'lunfs lun grow-partition /dev/mapper/mpatha-part1'))
    .action(async (text: string, options: Options) => {
      const made = await grow(thisHost, needDevice(text), { index: options.number, dryRun: options.dryRun, save: (guid) => path.resolve(options.save ?? freeName(`lunfs-gpt-${guid}`)), identify });
      const { plan, device, volume, saved } = made;
      if (options.json) {
        printJson({ device, volume, partition: plan.index, start: plan.start, sizeBefore: plan.sizeBefore, sizeAfter: plan.sizeAfter, changes: plan.changes, saved });
        return;
      }
      print(`Partition ${plan.index} of ${device}: from ${formatSize(plan.sizeBefore)} to ${formatSize(plan.sizeAfter)}, from byte ${plan.start} on as before; it holds ${volume}`);
      if (plan.changes.length > 0) print(`\n${table(['Structure', 'Field', '>From', '>To'], plan.changes.map((one) => [one.what, one.field, String(one.from), String(one.to)]))}`);
      print(options.dryRun ? '\nNothing was written.' : `${saved === undefined ? '\nThe table was as it should be; the kernel has been told.' : `\nThe tables as they were are in ${saved}.`}`);
    });
}

/** A volume of ours, by what does not change while it is in use. */
async function identify(partition: BlockDevice): Promise<string> {
  const volume = await probeVolume(partition);
  if (volume?.uuid !== undefined) return `the OCFS2 volume ${volume.uuid}`;
  throw new UsageError('GPT_NO_VOLUME', 'EINVAL', `${partition.name} holds ${volume === undefined ? 'no OCFS2 volume' : volume.text}: only partitions of volumes are grown`, { device: partition.name });
}

function freeName(base: string): string {
  for (let i = 0; ; i++) {
    const name = `${base}${i === 0 ? '' : `.${i}`}.bin`;
    if (!fs.existsSync(name)) return name;
  }
}
