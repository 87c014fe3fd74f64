/** `lunfs disk unexport`. */
import path from 'node:path';
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { connectVolumeProcess, normalPath } from '@lunfs/host';
import { examples } from '../../command.js';
import { needTarget } from '../../target.js';

export function unexport(group: Command): void {
  group
    .command('unexport')
    .summary('end an export')
    .argument('<target>', 'DEVICE:/name.raw')
    .option('--name <name>', 'of several exports of the disk, this one')
    .option('-f, --force', 'even if it has clients')
    .addHelpText('after', examples('lunfs disk unexport lun.img:/vm1.raw'))
    .action(async (text: string, options: { name?: string; force?: boolean }) => {
      const target = needTarget(text);
      const control = await connectVolumeProcess(target.device);
      try {
        const at = normalPath(target.path);
        const found = (await control.status()).exports.find((one) => one.path === at && (options.name === undefined || one.name === options.name));
        if (found === undefined) throw new UsageError('EXPORT_UNKNOWN', 'ENOENT', `${target.device} has no export of ${at}${options.name ? ` named ${options.name}` : ''} (lunfs disk ls lists them)`, { path: at, name: path.posix.basename(at) });
        if (found.connections > 0 && !options.force) throw new UsageError('EXPORT_IN_USE', 'EBUSY', `export ${found.name} has ${found.connections} clients (a guest loses its disk); end them first, or use --force`, { name: found.name });
        await control.removeExport(found.name);
      } finally {
        control.close();
      }
    });
}
