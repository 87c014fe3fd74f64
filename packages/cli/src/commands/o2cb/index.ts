/** `lunfs o2cb`: the cluster's configuration, with the names and options of o2cb(8) of ocfs2-tools. */
import type { Command } from 'commander';
import { DEFAULT_CLUSTER_CONF } from '@lunfs/o2cb';
import { examples } from '../../command.js';
import { addCluster, addNode, removeCluster, removeNode } from './clusters.js';
import { addHeartbeat, heartbeatMode, removeHeartbeat } from './heartbeats.js';
import { listCluster, listClusters, listHeartbeats, listNodes } from './lists.js';

export function o2cb(program: Command): void {
  const group = program
    .command('o2cb')
    .summary('describe the cluster: its nodes, addresses and heartbeat, in cluster.conf')
    .description(
      'The cluster as /etc/ocfs2/cluster.conf describes it. The file must say the same on every node: change it on one, copy it to the others. Comments, order and unknown keys stay as they are. ' +
        'Commands and options are those of o2cb(8).',
    )
    .option('--config-file <path>', 'another cluster.conf', DEFAULT_CLUSTER_CONF)
    .helpCommand(false)
    .addHelpText('after', examples(
      'lunfs o2cb add-cluster web',
      'lunfs o2cb add-node web host1 --ip 192.168.7.11 --number 1',
      'lunfs o2cb list-cluster web --oneline',
    ));
  for (const define of [addCluster, removeCluster, addNode, removeNode, addHeartbeat, removeHeartbeat, heartbeatMode, listClusters, listCluster, listNodes, listHeartbeats]) define(group);
}
