/** `lunfs locks`: the cluster locks of a volume as this node has them (debugfs.ocfs2's fs_locks and dlm_locks in one). */
import type { Command } from 'commander';
import { connectVolumeProcess, mountedDevice } from '@lunfs/host';
import { examples } from '../command.js';
import { useData } from '../daemon-option.js';
import { print, printJson, table } from '../output.js';
import { parseNumber } from '../sizes.js';

interface Options {
  readonly limit: number;
  readonly busy?: boolean;
  readonly json?: boolean;
}

export function locks(program: Command): void {
  useData(program
    .command('locks')
    .summary('show the cluster locks of a mounted volume, busiest first')
    .description('Show the lock resources of a volume that this host knows of: who masters them, what this node holds and wants, and the queues where it is the master. Locks somebody waits for come first.')
    .argument('<where>', 'the directory it is mounted on, or the device')
    .option('-n, --limit <number>', 'show at most so many, 0: all', parseNumber, 50)
    .option('--busy', 'only locks that somebody waits for')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs locks /mnt', 'lunfs locks --busy /dev/mapper/lun0'))
    .action(async (where: string, { limit, busy, json }: Options) => {
      const control = await connectVolumeProcess(mountedDevice(where) ?? where);
      try {
        const found = await control.locks({ limit: limit === 0 ? undefined : limit, busy });
        if (json) printJson(found);
        else print(table(['Lock', 'Master', 'Level', 'Granted', 'Converting', 'Blocked'], found.map((lock) => [lock.name, lock.master, lock.level, ...lock.queues])));
      } finally {
        control.close();
      }
    }));
}
