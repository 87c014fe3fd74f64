/**
 * Clusters as /etc/ocfs2/cluster.conf describes them (ocfs2.cluster.conf(5), cluster-protocols.md 1.1): read with every check that
 * the tools, the kernel's node manager or a peer at a domain join would make, and changed as o2cb(8) changes them.
 */
import { UsageError } from '@lunfs/device';
import { MAX_NODES } from '../node-map.js';
import { Document, type Stanza, badConf } from './document.js';

export const DEFAULT_CLUSTER_CONF = '/etc/ocfs2/cluster.conf';
/** The port that all nodes listen on by convention. */
export const DEFAULT_PORT = 7777;
/** Bytes of a cluster's name: it is stored in the superblock. */
export const MAX_CLUSTER_NAME = 16;
/** Bytes of a node's name (O2NM_MAX_NAME_LEN). */
export const MAX_NODE_NAME = 64;
/** Regions of global heartbeat. */
export const MAX_REGIONS = 32;

export type HeartbeatMode = 'local' | 'global';

export interface ClusterNode {
  /** 0 to 254. */
  readonly number: number;
  /** The host's name without domain. */
  readonly name: string;
  /** IPv4, dotted quad. */
  readonly address: string;
  readonly port: number;
}

/** One cluster. Peers compare nodes entry by entry when a domain is joined: all hosts must have the same. */
export interface ClusterConfig {
  readonly name: string;
  readonly heartbeatMode: HeartbeatMode;
  /** In the file's order; numbers, names and addresses are unique. */
  readonly nodes: readonly ClusterNode[];
  /** UUIDs (32 hex digits, upper case) of the volumes that carry global heartbeat; without meaning in local mode. */
  readonly regions: readonly string[];
}

/** What a new node is given; the rest is chosen. */
export interface NewNode {
  readonly name: string;
  readonly address: string;
  readonly port?: number;
  /** The lowest that is free, if not given. */
  readonly number?: number;
}

/** A cluster.conf. Immutable: each change gives a new one, checked as a whole. */
export class ClusterConf {
  readonly clusters: readonly ClusterConfig[];
  readonly #document: Document;

  private constructor(document: Document) {
    this.#document = document;
    this.clusters = clustersOf(document);
  }

  /** `file` is for messages. Throws BAD_CLUSTER_CONF, which names file, line and remedy. */
  static parse(text: string, file = DEFAULT_CLUSTER_CONF): ClusterConf {
    return new ClusterConf(Document.parse(text, file));
  }

  get file(): string {
    return this.#document.file;
  }

  /** The file's text: what was read, with the changes. */
  get text(): string {
    return this.#document.text;
  }

  /** Throws CLUSTER_UNKNOWN. */
  cluster(name: string): ClusterConfig {
    const found = this.clusters.find((one) => one.name === name);
    if (found) return found;
    const known = this.clusters.map((one) => one.name).join(', ');
    throw new UsageError(
      'CLUSTER_UNKNOWN', 'ENOENT',
      `${this.file} describes no cluster "${name}"${known === '' ? '' : ` (it has ${known})`}. Check the name, or add it: lunfs o2cb add-cluster ${name}`,
      { file: this.file, cluster: name },
    );
  }

  /** Throws BAD_CLUSTER_NAME, CLUSTER_EXISTS. */
  addCluster(name: string): ClusterConf {
    if (!/^[0-9A-Za-z]+$/.test(name) || name.length > MAX_CLUSTER_NAME) {
      throw new UsageError('BAD_CLUSTER_NAME', 'EINVAL', `"${name}" cannot name a cluster: 1 to ${MAX_CLUSTER_NAME} letters and digits`, { cluster: name });
    }
    if (this.clusters.some((one) => one.name === name)) throw exists(this.file, 'CLUSTER_EXISTS', `cluster "${name}"`, name);
    return new ClusterConf(this.#document.withStanza('cluster', { node_count: '0', heartbeat_mode: 'local', name }));
  }

  /** With its nodes and regions. */
  removeCluster(name: string): ClusterConf {
    this.cluster(name);
    const { cluster, nodes, regions } = stanzasOf(this.#document, name);
    return new ClusterConf(this.#document.without([cluster, ...nodes, ...regions]));
  }

  /** Throws BAD_NODE_NAME, BAD_NODE_ADDRESS, BAD_NODE_PORT, BAD_NODE_NUMBER, NODE_EXISTS, CLUSTER_FULL, CLUSTER_UNKNOWN. */
  addNode(name: string, node: NewNode): ClusterConf {
    const { nodes } = this.cluster(name);
    const port = node.port ?? DEFAULT_PORT;
    const number = node.number ?? lowestFree(nodes);
    if (number === undefined) throw new UsageError('CLUSTER_FULL', 'ENOSPC', `cluster "${name}" has ${MAX_NODES} nodes already; remove one first`, { cluster: name });
    const bad = nodeProblem({ ...node, port, number });
    if (bad) throw new UsageError(bad.code, 'EINVAL', bad.what, { cluster: name, node: node.name });
    const clash = clashOf(nodes, { ...node, port, number });
    if (clash) throw exists(this.file, 'NODE_EXISTS', clash, name);
    const { cluster } = stanzasOf(this.#document, name);
    const counted = this.#document.withAttribute(cluster, 'node_count', String(nodes.length + 1));
    return new ClusterConf(counted.withStanza('node', { ip_port: String(port), ip_address: node.address, number: String(number), name: node.name, cluster: name }));
  }

  /** Throws NODE_UNKNOWN, CLUSTER_UNKNOWN. */
  removeNode(name: string, node: string): ClusterConf {
    const count = this.cluster(name).nodes.length;
    const { nodes } = stanzasOf(this.#document, name);
    const found = nodes.filter((stanza) => stanza.get('name') === node);
    if (found.length === 0) {
      const known = this.cluster(name).nodes.map((one) => one.name).join(', ');
      throw new UsageError('NODE_UNKNOWN', 'ENOENT', `cluster "${name}" in ${this.file} has no node "${node}"${known === '' ? '' : ` (it has ${known})`}`, { file: this.file, cluster: name, node });
    }
    // Recounted in the text before the stanza goes: a Document is not checked, and line numbers stay those of `nodes`.
    const removed = this.#document.without(found);
    return new ClusterConf(removed.withAttribute(stanzasOf(removed, name).cluster, 'node_count', String(count - 1)));
  }

  /** `region`: UUID of a volume, with or without dashes. Throws BAD_REGION, REGION_EXISTS, CLUSTER_FULL, CLUSTER_UNKNOWN. */
  addHeartbeat(name: string, region: string): ClusterConf {
    const { regions } = this.cluster(name);
    const uuid = regionName(region);
    if (regions.includes(uuid)) throw exists(this.file, 'REGION_EXISTS', `heartbeat region ${uuid}`, name);
    if (regions.length >= MAX_REGIONS) throw new UsageError('CLUSTER_FULL', 'ENOSPC', `cluster "${name}" has ${MAX_REGIONS} heartbeat regions already; remove one first`, { cluster: name });
    return new ClusterConf(this.#document.withStanza('heartbeat', { region: uuid, cluster: name }));
  }

  /** Throws BAD_REGION, REGION_UNKNOWN, CLUSTER_UNKNOWN. */
  removeHeartbeat(name: string, region: string): ClusterConf {
    this.cluster(name);
    const uuid = regionName(region);
    const found = stanzasOf(this.#document, name).regions.filter((stanza) => stanza.get('region') === uuid);
    if (found.length === 0) throw new UsageError('REGION_UNKNOWN', 'ENOENT', `cluster "${name}" in ${this.file} has no heartbeat region ${uuid}`, { file: this.file, cluster: name, region: uuid });
    return new ClusterConf(this.#document.without(found));
  }

  /** Throws CLUSTER_UNKNOWN. */
  setHeartbeatMode(name: string, mode: HeartbeatMode): ClusterConf {
    this.cluster(name);
    return new ClusterConf(this.#document.withAttribute(stanzasOf(this.#document, name).cluster, 'heartbeat_mode', mode));
  }
}

/**
 * Which node of the cluster this host is: the one whose name is the host's, or its part before a dot, whatever the case
 * (o2cb_ctl/op_register.c:node_is_local). Throws NODE_NOT_CONFIGURED.
 */
export function localNode(cluster: ClusterConfig, host: string, file = DEFAULT_CLUSTER_CONF): ClusterNode {
  const name = host.toLowerCase();
  const found = cluster.nodes.find((node) => name === node.name.toLowerCase() || name.startsWith(`${node.name.toLowerCase()}.`));
  if (found) return found;
  const known = cluster.nodes.map((node) => node.name).join(', ');
  throw new UsageError(
    'NODE_NOT_CONFIGURED', 'ENOENT',
    `${file}: cluster "${cluster.name}" has no node named "${host}"${known === '' ? '' : ` (its nodes are ${known})`}. Add this host on every node: ` +
      `lunfs o2cb add-node ${cluster.name} ${host.split('.')[0]} --ip ADDRESS`,
    { file, cluster: cluster.name, host },
  );
}

/** A volume's UUID as a region's name: 32 hex digits, upper case. Throws BAD_REGION. */
export function regionName(uuid: string): string {
  const name = uuid.replaceAll('-', '').toUpperCase();
  if (/^[0-9A-F]{32}$/.test(name)) return name;
  throw new UsageError('BAD_REGION', 'EINVAL', `"${uuid}" names no heartbeat region: the UUID of a volume is 32 hex digits (lunfs info DEVICE shows it)`, { region: uuid });
}

function lowestFree(nodes: readonly ClusterNode[]): number | undefined {
  for (let number = 0; number < MAX_NODES; number++) if (!nodes.some((node) => node.number === number)) return number;
  return undefined;
}

function exists(file: string, code: string, what: string, cluster: string): UsageError {
  return new UsageError(code, 'EEXIST', `${file}: ${what} exists already`, { file, cluster });
}

interface ClusterStanzas {
  readonly cluster: Stanza;
  readonly nodes: readonly Stanza[];
  readonly regions: readonly Stanza[];
}

function stanzasOf({ stanzas }: Document, name: string): ClusterStanzas {
  const of = (kind: string) => stanzas.filter((one) => one.name === kind && one.raw('cluster') === name);
  return { cluster: stanzas.find((one) => one.name === 'cluster' && one.get('name') === name)!, nodes: of('node'), regions: of('heartbeat') };
}

function clustersOf(document: Document): ClusterConfig[] {
  const { file, stanzas } = document;
  const seen = new Map<string, number>();
  return stanzas.filter(({ name }) => name === 'cluster').map((stanza) => {
    const name = required(file, stanza, 'name');
    if (Buffer.byteLength(name) > MAX_CLUSTER_NAME) throw badConf(file, stanza.lineOf('name'), `the name "${name}" is longer than ${MAX_CLUSTER_NAME} bytes. Choose a shorter one, on every node`, { cluster: name });
    const before = seen.get(name);
    if (before !== undefined) throw badConf(file, stanza.line, `cluster "${name}" is described in line ${before} already. Remove one of the two`, { cluster: name });
    seen.set(name, stanza.line);
    return clusterOf(document, name, stanza);
  });
}

function clusterOf(document: Document, name: string, stanza: Stanza): ClusterConfig {
  const { file } = document;
  const parts = stanzasOf(document, name);
  const mode = (stanza.get('heartbeat_mode') ?? 'local').toLowerCase();
  if (mode !== 'local' && mode !== 'global') throw badConf(file, stanza.lineOf('heartbeat_mode'), `heartbeat_mode is "${mode}"; it can be local or global`, { cluster: name });
  const nodes: ClusterNode[] = [];
  for (const one of parts.nodes) nodes.push(nodeOf(file, one, nodes));
  const count = integer(file, stanza, 'node_count');
  if (count !== nodes.length) {
    throw badConf(file, stanza.lineOf('node_count'), `node_count is ${count}, but the file has ${nodes.length} nodes of cluster "${name}". Write node_count = ${nodes.length}, or add what is missing`, { cluster: name });
  }
  const regions: string[] = [];
  for (const one of parts.regions) {
    const region = required(file, one, 'region');
    if (!/^[0-9A-F]{32}$/.test(region)) throw badConf(file, one.lineOf('region'), `"${region}" is no region: the UUID of a volume, 32 hex digits in upper case`, { cluster: name });
    if (regions.includes(region)) throw badConf(file, one.line, `region ${region} is there twice. Remove one of the two`, { cluster: name });
    regions.push(region);
  }
  if (regions.length > MAX_REGIONS) throw badConf(file, parts.regions[MAX_REGIONS].line, `cluster "${name}" has ${regions.length} heartbeat regions, ${MAX_REGIONS} are allowed. Remove some`, { cluster: name });
  return { name, heartbeatMode: mode, nodes, regions };
}

function nodeOf(file: string, stanza: Stanza, before: readonly ClusterNode[]): ClusterNode {
  const node: ClusterNode = {
    name: required(file, stanza, 'name'),
    number: integer(file, stanza, 'number'),
    address: required(file, stanza, 'ip_address'),
    port: integer(file, stanza, 'ip_port'),
  };
  const bad = nodeProblem(node);
  if (bad) throw badConf(file, stanza.lineOf(bad.attribute), bad.what, { node: node.name });
  const clash = clashOf(before, node);
  if (clash) throw badConf(file, stanza.line, `${clash} is there twice. Give node "${node.name}" another, on every host`, { node: node.name });
  return node;
}

/** What is wrong with a node by itself. */
function nodeProblem({ name, number, address, port }: ClusterNode): { code: string; attribute: string; what: string } | undefined {
  if (name === '' || Buffer.byteLength(name) > MAX_NODE_NAME || /[\s/]/.test(name)) {
    return { code: 'BAD_NODE_NAME', attribute: 'name', what: `"${name}" cannot name a node: the host's name without domain, at most ${MAX_NODE_NAME} bytes, no blanks` };
  }
  if (!Number.isInteger(number) || number < 0 || number >= MAX_NODES) {
    return { code: 'BAD_NODE_NUMBER', attribute: 'number', what: `node "${name}" has the number ${number}; it can be 0 to ${MAX_NODES - 1}` };
  }
  if (!isIpv4(address)) {
    return { code: 'BAD_NODE_ADDRESS', attribute: 'ip_address', what: `node "${name}" has the address "${address}"; it must be IPv4 as four numbers, such as 192.168.7.10` };
  }
  if (!Number.isInteger(port) || port < 1 || port > 65534) {
    return { code: 'BAD_NODE_PORT', attribute: 'ip_port', what: `node "${name}" has the port ${port}; it can be 1 to 65534 (${DEFAULT_PORT} by convention)` };
  }
  return undefined;
}

/** As inet_pton(AF_INET) takes it: no leading zeros. */
function isIpv4(text: string): boolean {
  return /^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text) && text.split('.').every((part) => Number(part) <= 255);
}

/** What another node has already; the kernel's node manager refuses all three. */
function clashOf(nodes: readonly ClusterNode[], { name, number, address }: ClusterNode): string | undefined {
  if (nodes.some((one) => one.name === name)) return `node name "${name}"`;
  if (nodes.some((one) => one.number === number)) return `node number ${number}`;
  const other = nodes.find((one) => one.address === address);
  return other && `address ${address} (node "${other.name}")`;
}

function required(file: string, stanza: Stanza, attribute: string): string {
  const value = stanza.get(attribute);
  if (value === undefined || value === '') throw badConf(file, stanza.lineOf(attribute), `the stanza "${stanza.name}:" has no ${attribute}. Write <tab>${attribute} = VALUE in it`);
  return value;
}

/** A number as strtoul(…, 10) takes it, nothing behind it. */
function integer(file: string, stanza: Stanza, attribute: string): number {
  const text = required(file, stanza, attribute);
  if (!/^\+?\d{1,9}$/.test(text)) throw badConf(file, stanza.lineOf(attribute), `${attribute} is "${text}", which is no number`);
  return Number(text);
}
