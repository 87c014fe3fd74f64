/** `lunfs disk ls`. */
import type { Command } from 'commander';
import { examples } from '../../command.js';
import { withDisks } from '../../disk-access.js';
import { print, printJson, table } from '../../output.js';
import { formatSize, formatTime } from '../../sizes.js';
import { holderOf } from './lease.js';
import { targetOrRoot } from '../../target.js';

export function ls(group: Command): void {
  group
    .command('ls')
    .summary('list disks, the hosts that may write them, and their exports here')
    .argument('<target>', 'DEVICE for its root, or DEVICE:/directory')
    .option('-a, --all', 'every file, not only NAME.raw')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk ls /dev/mapper/lun0'))
    .action(async (text: string, options: { all?: boolean; json?: boolean }) => {
      const { device, path } = targetOrRoot(text);
      await withDisks('disk ls', device, { write: false }, async (disks) => {
        const found = (await disks.list(path, options.all ?? false)).map((one) => ({ ...one, exports: (disks.facts?.exports ?? []).filter((e) => e.path === one.path) }));
        if (options.json) printJson({ device, mount: disks.facts?.mount, disks: found });
        else if (found.length === 0) print(`${device}:${path} holds no disks (NAME.raw); --all lists every file`);
        else {
          const rows = found.map((one) => [one.path, formatSize(one.size), formatSize(one.allocated), formatTime(one.modified).slice(0, 16), holderOf(one.lease), one.exports.map((e) => `${e.uri}${e.connections > 0 ? ` (${e.connections} clients)` : ''}`).join(' ')]);
          print(table(['Disk', '>Size', '>Allocated', 'Modified', 'Host', 'Export'], rows));
        }
      });
    });
}
