/** `lunfs up` and `lunfs down`: this host's membership in its cluster. */
import type { Command } from 'commander';
import { connectDaemon, startDaemon } from '@lunfs/host';
import { examples } from '../command.js';
import { useData } from '../daemon-option.js';
import { note } from '../output.js';
import { stay } from './mount.js';

interface UpOptions {
  readonly node?: string;
  readonly cluster?: string;
  readonly config?: string;
  readonly settings?: string;
  readonly watchdog?: string;
  readonly data?: string;
  readonly stateDir?: string;
  readonly foreground?: boolean;
}

export function up(program: Command): void {
  useData(program
    .command('up')
    .summary('start lunfsd: this host becomes ready to be a member of its cluster')
    .description('Start lunfsd, which beats, connects and supervises for the volumes of a cluster that this host mounts. Nothing is written to any volume before one is mounted; with global heartbeat it beats at once on the volumes that cluster.conf names. What was mounted by "lunfs mount" when it ended, or when the host did, is mounted again; lunfs status tells of what it waits for.')
    .option('--node <name>', "name of this host in cluster.conf (default: the host's name)")
    .option('--cluster <name>', 'cluster of the file (default: O2CB_BOOTCLUSTER, or the only one)')
    .option('--config <file>', 'cluster.conf (default /etc/ocfs2/cluster.conf)')
    .option('--settings <file>', 'timeouts (default /etc/default/o2cb or /etc/sysconfig/o2cb)')
    .option('--watchdog <device>', 'watchdog that resets this host when its I/O cannot be stopped in time, fed while volumes are mounted (default: LUNFS_WATCHDOG of the settings, else none)')
    .option('--state-dir <dir>', 'where lunfsd keeps what is to be mounted (default /var/lib/lunfs; with --data its directory "state")')
    .option('-f, --foreground', 'stay, until Ctrl-C')
    .addHelpText('after', examples('lunfs up', 'lunfs mount /dev/mapper/lun0 /mnt', 'lunfs cluster status'))
    .action(async ({ foreground = false, stateDir, ...options }: UpOptions) => {
      const started = await startDaemon({ ...options, stateDirectory: stateDir }, foreground);
      const { cluster, node, number } = started.facts;
      note('up', `node ${node} (${number}) of cluster ${cluster}, process ${started.pid}${started.log ? `, log ${started.log}` : ''}`);
      if (foreground) await stay(started);
    }));
}

export function down(program: Command): void {
  useData(program
    .command('down')
    .summary('unmount the volumes of the cluster on this host and stop lunfsd; they come back with "lunfs up"')
    .addHelpText('after', examples('lunfs down'))
    .action(async () => {
      const daemon = await connectDaemon();
      await daemon.stop();
    }));
}
