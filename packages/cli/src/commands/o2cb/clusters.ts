/** `lunfs o2cb add-cluster`, `remove-cluster`, `add-node`, `remove-node`. */
import dns from 'node:dns/promises';
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { DEFAULT_PORT } from '@lunfs/o2cb';
import { examples } from '../../command.js';
import { parseNumber } from '../../sizes.js';
import { change } from './config.js';

export function addCluster(group: Command): void {
  group
    .command('add-cluster')
    .summary('add a cluster')
    .description('Add a cluster to the file, which is made if there is none. A file may describe several; a host is a member of one at a time (O2CB_BOOTCLUSTER).')
    .argument('<cluster>', 'up to 16 letters and digits')
    .option('--json', 'print the cluster as JSON')
    .addHelpText('after', examples('lunfs o2cb add-cluster web'))
    .action((cluster: string, _: object, command: Command) => change(command, cluster, (conf) => conf.addCluster(cluster)));
}

export function removeCluster(group: Command): void {
  group
    .command('remove-cluster')
    .summary('remove a cluster with its nodes and heartbeat regions')
    .argument('<cluster>')
    .option('--json', 'print as JSON')
    .action((cluster: string, _: object, command: Command) => change(command, cluster, (conf) => conf.removeCluster(cluster)));
}

interface NodeOptions {
  ip?: string;
  port?: number;
  number?: number;
}

export function addNode(group: Command): void {
  group
    .command('add-node')
    .summary('add a node to a cluster')
    .argument('<cluster>')
    .argument('<node>', 'the host\'s name, without domain')
    .option('--ip <address>', 'IPv4 address on the network between the nodes (default: what the name resolves to)')
    .option('--port <port>', `TCP port (default: ${DEFAULT_PORT})`, parseNumber)
    .option('--number <number>', '0 to 254 (default: the lowest that is free)', parseNumber)
    .option('--json', 'print the cluster as JSON')
    .addHelpText('after', examples('lunfs o2cb add-node web host1 --ip 192.168.7.11', 'lunfs o2cb add-node web host7 --ip 192.168.7.17 --number 7'))
    .action(async (cluster: string, name: string, { ip, port, number }: NodeOptions, command: Command) => {
      const address = ip ?? (await resolve(name));
      change(command, cluster, (conf) => conf.addNode(cluster, { name, address, ...(port === undefined ? {} : { port }), ...(number === undefined ? {} : { number }) }));
    });
}

export function removeNode(group: Command): void {
  group
    .command('remove-node')
    .summary('remove a node from a cluster')
    .argument('<cluster>')
    .argument('<node>')
    .option('--json', 'print the cluster as JSON')
    .action((cluster: string, node: string, _: object, command: Command) => change(command, cluster, (conf) => conf.removeNode(cluster, node)));
}

async function resolve(name: string): Promise<string> {
  try {
    return (await dns.lookup(name, { family: 4 })).address;
  } catch (cause) {
    throw new UsageError('BAD_NODE_ADDRESS', 'EINVAL', `"${name}" resolves to no IPv4 address: give one with --ip`, { node: name }, cause);
  }
}
