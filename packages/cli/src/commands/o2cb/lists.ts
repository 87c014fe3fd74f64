/** `lunfs o2cb list-clusters`, `list-cluster`, `list-nodes`, `list-heartbeats`: the lines of o2cb(8), to the letter. */
import type { Command } from 'commander';
import { examples } from '../../command.js';
import { print, printJson } from '../../output.js';
import { type ClusterConfig, configured } from './config.js';

interface Options {
  oneline?: boolean;
  json?: boolean;
}

export function listClusters(group: Command): void {
  group
    .command('list-clusters')
    .summary('list the names of all clusters')
    .option('--json', 'print as JSON')
    .action(({ json }: Options, command: Command) => {
      const names = configured(command).clusters.map(({ name }) => name);
      if (json) printJson(names);
      else for (const name of names) print(name);
    });
}

export const listCluster = list('list-cluster', 'list a cluster with its nodes and heartbeat regions', (cluster, oneline) => [...heartbeats(cluster, oneline), ...nodes(cluster, oneline), summary(cluster, oneline)], (cluster) => cluster);
export const listNodes = list('list-nodes', 'list the nodes of a cluster', nodes, (cluster) => cluster.nodes);
export const listHeartbeats = list('list-heartbeats', 'list the heartbeat regions of a cluster', heartbeats, (cluster) => cluster.regions);

function list(name: string, about: string, lines: (cluster: ClusterConfig, oneline: boolean) => string[], facts: (cluster: ClusterConfig) => unknown): (group: Command) => void {
  return (group) => {
    group
      .command(name)
      .summary(about)
      .argument('<cluster>')
      .option('--oneline', 'one line for each')
      .option('--json', 'print as JSON')
      .addHelpText('after', examples(`lunfs o2cb ${name} web --oneline`))
      .action((cluster: string, { oneline, json }: Options, command: Command) => {
        const found = configured(command).cluster(cluster);
        if (json) printJson(facts(found));
        else for (const line of lines(found, oneline === true)) print(line);
      });
  };
}

function heartbeats({ name, regions }: ClusterConfig, oneline: boolean): string[] {
  return regions.map((region) => (oneline ? `heartbeat: ${region} ${name}` : `heartbeat:\n\tregion = ${region}\n\tcluster = ${name}\n`));
}

function nodes(cluster: ClusterConfig, oneline: boolean): string[] {
  return cluster.nodes.map(({ number, name, address, port }) =>
    oneline
      ? `node: ${number} ${name} ${address}:${port} ${cluster.name}`
      : `node:\n\tnumber = ${number}\n\tname = ${name}\n\tip_address = ${address}\n\tip_port = ${port}\n\tcluster = ${cluster.name}\n`);
}

function summary({ name, heartbeatMode, nodes: { length } }: ClusterConfig, oneline: boolean): string {
  return oneline ? `cluster: ${length} ${heartbeatMode} ${name}` : `cluster:\n\tnode_count = ${length}\n\theartbeat_mode = ${heartbeatMode}\n\tname = ${name}\n`;
}
