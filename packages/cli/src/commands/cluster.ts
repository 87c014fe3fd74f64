/** `lunfs status` and `lunfs cluster status`: what lunfsd knows of its volumes and of the other nodes. */
import type { Command } from 'commander';
import { LunfsError } from '@lunfs/device';
import { type ClusterFacts, type DomainFacts, connectDaemon, connectVolumeProcess } from '@lunfs/host';
import { examples } from '../command.js';
import { useData } from '../daemon-option.js';
import { facts, print, printJson, table } from '../output.js';

export function status(program: Command): void {
  useData(program
    .command('status')
    .summary('show what lunfsd has mounted on this host, and what it is to mount and why it has not')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs status', 'lunfs status --json'))
    .action(async ({ json }: { json?: boolean }) => {
      const { volumes } = await clusterFacts();
      if (json) printJson(volumes);
      else if (volumes.length === 0) print('lunfsd runs; no volume of the cluster is mounted here');
      else print(table(['Device', 'Mounted on', 'State', '>Process', '>Fenced', 'Why'], volumes.map((one) => [one.device, one.directory, one.state, String(one.pid ?? ''), String(one.fenced), one.reason ?? ''])));
    }));
}

export function cluster(program: Command): void {
  const group = program.command('cluster').summary('the cluster this host is a member of').description('The cluster this host is a member of.');
  useData(group
    .command('status')
    .summary('show nodes, heartbeats, connections, domains, recovery and the I/O deadline')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs cluster status', 'lunfs cluster status --json'))
    .action(async ({ json }: { json?: boolean }) => {
      const found = await clusterFacts();
      const domains: (DomainFacts | undefined)[] = [];
      for (const volume of found.volumes) domains.push(volume.state === 'mounted' ? await domainFacts(volume.device) : undefined);
      if (json) printJson({ ...found, volumes: found.volumes.map((volume, i) => ({ ...volume, domain: domains[i] })) });
      else show(found, domains);
    }));
}

async function clusterFacts(): Promise<ClusterFacts> {
  const daemon = await connectDaemon();
  try {
    return await daemon.status();
  } finally {
    daemon.close();
  }
}

/** Undefined: its process has just ended. */
async function domainFacts(device: string): Promise<DomainFacts | undefined> {
  try {
    const control = await connectVolumeProcess(device);
    try {
      return await control.domain();
    } finally {
      control.close();
    }
  } catch (error) {
    if (error instanceof LunfsError && (error.code.startsWith('NO_VOLUME_PROCESS') || error.code === 'VOLUME_PROCESS_GONE')) return undefined;
    throw error;
  }
}

const seconds = (ms: number | undefined): string => (ms === undefined ? '' : `${(ms / 1000).toFixed(1)} s`);

/** How long ago the last beat of this node that counts was submitted. */
function beatAge({ regions }: ClusterFacts, uuid: string | undefined): string | undefined {
  const age = regions.find(({ name }) => name === uuid)?.sinceGood;
  return age === undefined ? undefined : `${seconds(age)} ago`;
}

function show(found: ClusterFacts, domains: readonly (DomainFacts | undefined)[]): void {
  const { timeouts } = found;
  print(facts([
    ['Cluster', `${found.cluster} (heartbeat ${found.heartbeatMode}, a silent node is dead after ${seconds(timeouts.deadMs)}, connections idle after ${seconds(timeouts.idleMs)})`],
    ['This node', `${found.node} (${found.number}), lunfsd process ${found.pid}`],
  ]));
  print('');
  print(table(['>Node', 'Name', 'Address', 'Heartbeat', 'Connection', '>Heard of', '>Sent', '>Received'], found.nodes.map((node) => {
    const { connection } = node;
    const missed = Math.min(...found.regions.flatMap(({ live }) => live.filter((one) => one.node === node.number).map(({ silent }) => silent)));
    return [
      String(node.number), node.name, `${node.address}:${node.port}`, node.live ? (missed > 0 && Number.isFinite(missed) ? `alive, ${missed} of ${timeouts.threshold} beats missed` : 'alive') : 'down', node.local ? 'this node' : (connection?.state ?? ''),
      connection?.lastReceived === undefined ? '' : `${seconds(connection.lastReceived)} ago`, connection === undefined ? '' : String(connection.sent), connection === undefined ? '' : String(connection.received),
    ];
  })));
  for (const [i, volume] of found.volumes.entries()) {
    const domain = domains[i];
    print('');
    print(facts([
      ['Volume', `${volume.device} on ${volume.directory}: ${volume.state}${volume.pid === undefined ? '' : `, process ${volume.pid}`}`],
      ['Not mounted', volume.reason],
      ['Domain', volume.uuid],
      ['Members', domain?.members.join(', ')],
      ['Recovery', domain && (domain.recovering.length === 0 ? 'none' : `of node ${domain.recovering.join(', ')}`)],
      ['Locks', domain && `${domain.resources} resources known here, ${domain.mastered} of them mastered here, ${domain.locks} locks held here`],
      ['Last good beat', beatAge(found, volume.uuid)],
      ['I/O deadline', volume.deadlineMs === undefined ? undefined : volume.deadlineMs > 0 ? `in ${seconds(volume.deadlineMs)}` : 'over: no I/O is submitted'],
      ['Fenced', volume.fenced === 0 ? undefined : `${volume.fenced} times, last by ${volume.lastEnd}`],
    ]));
  }
}
