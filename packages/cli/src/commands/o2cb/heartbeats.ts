/** `lunfs o2cb add-heartbeat`, `remove-heartbeat`, `heartbeat-mode`. */
import * as fs from 'node:fs';
import { type Command, Argument } from 'commander';
import type { HeartbeatMode } from '@lunfs/o2cb';
import { RawReader } from '@lunfs/ocfs2';
import { examples } from '../../command.js';
import { withRawDevice } from '../../device-access.js';
import { change } from './config.js';

const REGION = 'UUID of a volume, or the device it is on';

export function addHeartbeat(group: Command): void {
  group
    .command('add-heartbeat')
    .summary('add a heartbeat region to a cluster')
    .description('Add a volume whose heartbeat area carries the heartbeat of the whole cluster. Without effect until heartbeat-mode is global.')
    .argument('<cluster>')
    .argument('<uuid|device>', REGION)
    .option('--json', 'print the cluster as JSON')
    .addHelpText('after', examples('lunfs o2cb add-heartbeat web /dev/mapper/lun0', 'lunfs o2cb add-heartbeat web 77D95EF51C0149D2823674FCC162CF8B'))
    .action(async (cluster: string, where: string, _: object, command: Command) => {
      const uuid = await uuidOf('o2cb add-heartbeat', where);
      change(command, cluster, (conf) => conf.addHeartbeat(cluster, uuid));
    });
}

export function removeHeartbeat(group: Command): void {
  group
    .command('remove-heartbeat')
    .summary('remove a heartbeat region from a cluster')
    .argument('<cluster>')
    .argument('<uuid|device>', REGION)
    .option('--json', 'print the cluster as JSON')
    .action(async (cluster: string, where: string, _: object, command: Command) => {
      const uuid = await uuidOf('o2cb remove-heartbeat', where);
      change(command, cluster, (conf) => conf.removeHeartbeat(cluster, uuid));
    });
}

export function heartbeatMode(group: Command): void {
  group
    .command('heartbeat-mode')
    .summary('choose local or global heartbeat')
    .description('local: every mounted volume carries a heartbeat of its own. global: the volumes named by add-heartbeat carry that of the whole cluster; three or more let a node live on when one of them fails.')
    .argument('<cluster>')
    .addArgument(new Argument('<mode>').choices(['local', 'global']))
    .option('--json', 'print the cluster as JSON')
    .action((cluster: string, mode: HeartbeatMode, _: object, command: Command) => change(command, cluster, (conf) => conf.setHeartbeatMode(cluster, mode)));
}

/** A device's volume is asked for its UUID; anything else must be one. */
async function uuidOf(command: string, where: string): Promise<string> {
  if (!where.includes('/') && !fs.existsSync(where)) return where;
  return await withRawDevice(command, where, { beside: true }, async (device) => (await RawReader.open(device)).geo.uuidText);
}
