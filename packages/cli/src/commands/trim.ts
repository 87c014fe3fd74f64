/** `lunfs trim`: what fstrim(8) does for file systems of the kernel. */
import type { Command } from 'commander';
import { mountedDevice } from '@lunfs/host';
import type { TrimOptions, Trimmed } from '@lunfs/ocfs2';
import { examples } from '../command.js';
import { throughProcess } from '../mounted.js';
import { print, printJson } from '../output.js';
import { Progress } from '../progress.js';
import { formatSize, parseSize } from '../sizes.js';
import { needDevice } from '../target.js';
import { withWriter } from '../volume-access.js';

interface Options {
  offset?: number;
  length?: number;
  minimum?: number;
  offline?: boolean;
  quiet?: boolean;
  json?: boolean;
}

/** A volume, or the process that has it. */
interface Trimmer {
  trim(options: TrimOptions): Promise<Trimmed>;
}

export function trim(program: Command): void {
  program
    .command('trim')
    .summary('tell the device which space is free')
    .description('Discard the free space of a volume on its device, mounted or not, so that a thin LUN or a sparse image gives it back: what fstrim(8) does, which does not reach file systems in userspace. A host in a live cluster cannot; use --offline when no host has the volume mounted, or fstrim on a kernel node.')
    .argument('<where>', 'block device or image file, or the directory it is mounted on')
    .option('-o, --offset <size>', 'begin here (default: 0)', parseSize)
    .option('-l, --length <size>', 'look at so much of the volume (default: all)', parseSize)
    .option('-m, --minimum <size>', 'leave shorter runs of free space alone (default: 1M)', parseSize)
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .option('-q, --quiet', 'print nothing')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs trim /dev/mapper/lun0', 'lunfs trim --minimum 64K /mnt', 'lunfs trim --offline shared.img'))
    .action(async (where: string, options: Options) => {
      const device = mountedDevice(where) ?? needDevice(where);
      const { offset, length, minimum, quiet, json } = options;
      const progress = new Progress('trim', 'bytes', quiet);
      const work = (volume: Trimmer): Promise<Trimmed> => volume.trim({ offset, length, minimum, progress: (done, total) => progress.tell('looked at', done, total) });
      const made = await throughProcess(device, work, () => withWriter('trim', device, options, work)).finally(() => progress.end());
      if (json) printJson({ device, ...made });
      else if (!quiet) print(`${device}: ${formatSize(made.bytes)} (${made.bytes} bytes) trimmed in ${made.runs} ${made.runs === 1 ? 'piece' : 'pieces'}`);
    });
}
