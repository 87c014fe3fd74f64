// Linux's own OCFS2 nodes in virtual machines, on one LUN (T = 7), for what of `cluster` can be compared: a fourth node, a kernel one and one of ours in
// turn, mounts beside three kernel nodes (most of that time is the heartbeat's, the same for both); and what sharing costs two kernel nodes against
// one of them alone. Without KVM their processor is some ten times slower than ours: figures in ms say nothing then. Needs root.
// Takes about 4 minutes. usage: node bench/cluster-kernel.mjs [--rounds N] [--cell mount|turns|create] [--dir DIRECTORY] [--json]
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { clusterHosts, detachAll } from '../scripts/lib/hosts.mjs';
import { Machine, provenAccel } from '../scripts/lib/machine/machine.mjs';
import { findProgram, oracleMissing } from '../scripts/lib/oracles.mjs';
import { FILES, THRESHOLD, TURNS, appendsInTurn, createsTogether, printTable, since, tableRow, turnsBeside } from './lib/cluster-cells.mjs';
import { spread } from './lib/nbd.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' }, cell: { type: 'string' }, dir: { type: 'string', default: os.tmpdir() }, json: { type: 'boolean', default: false }, inside: { type: 'string' } } });
const ROUNDS = Number(values.rounds);
/** Mounted all the time; then a kernel node that comes and goes, then ours. */
const STAY = 3;
const HOSTS = STAY + 2;
const NETWORK = '192.168.7';
const IDLE_MS = 5000;

const cells = { mount, turns, create };
const chosen = Object.keys(cells).filter((name) => values.cell === undefined || name === values.cell);
const why = ['fuse', 'loop', 'kernel', 'network', 'ocfs2-tools'].map(oracleMissing).find((one) => one !== undefined);
if (why !== undefined) console.log(`bench/cluster-kernel: left out: ${why}`);
else if (chosen.length === 0) {
  console.error(`no cell ${values.cell}; there are ${Object.keys(cells).join(', ')}`);
  process.exitCode = 2;
} else if (values.inside === undefined) process.exitCode = inNamespace();
else await bench(values.inside);

function ip(...args) {
  const { status, stderr } = spawnSync(findProgram('ip'), args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

/** The rest of this benchmark as a process of a network of its own: a bridge, which has our host's address. */
function inNamespace() {
  const namespace = `lunfs-bench-${process.pid}`;
  ip('netns', 'add', namespace);
  // Ctrl-C and timeout(1) reach the process below as well, which puts everything in order first.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => undefined);
  try {
    const { status } = spawnSync('nsenter', [`--net=/run/netns/${namespace}`, process.execPath, import.meta.filename, ...process.argv.slice(2), '--inside', namespace], { stdio: 'inherit' });
    return status ?? 1;
  } finally {
    ip('netns', 'del', namespace);
  }
}

async function bench(namespace) {
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stopping.abort());
  const directory = fs.mkdtempSync('/tmp/lunfs-bench-');
  const lun = path.join(fs.mkdtempSync(path.join(values.dir, 'lunfs-bench-lun-')), 'lun');
  let hosts = [];
  let nodes = [];
  try {
    fs.closeSync(fs.openSync(lun, 'w'));
    fs.truncateSync(lun, 2 ** 30);
    spawnSync('fallocate', ['-l', String(2 ** 30), lun]);
    hosts = await clusterHosts(directory, lun, { count: HOSTS, cluster: 'bench', network: NETWORK, settings: { O2CB_HEARTBEAT_THRESHOLD: THRESHOLD, O2CB_IDLE_TIMEOUT_MS: IDLE_MS }, signal: stopping.signal });
    const ours = hosts[HOSTS - 1];
    for (const args of [['link', 'set', 'lo', 'up'], ['link', 'add', 'bridge', 'type', 'bridge', 'forward_delay', '0', 'mcast_snooping', '0'], ['link', 'set', 'bridge', 'up'], ['addr', 'add', `${ours.node.address}/24`, 'dev', 'bridge']]) ip(...args);
    await ours.lunfs('mkfs', '-q', '-F', '-N', String(HOSTS), '-b', '4K', '-C', '4K', '--cluster-stack', 'o2cb', '--cluster-name', 'bench', ours.device);
    const conf = fs.readFileSync(path.join(directory, 'cluster.conf'), 'utf8');
    nodes = await Promise.all(hosts.slice(0, HOSTS - 1).map((host) => kernelNode(namespace, host, conf, stopping.signal)));
    await ours.up();
    for (const node of nodes.slice(0, STAY)) await mountKernel(node);
    const rows = [];
    for (const name of chosen) rows.push(...(await cells[name](nodes, ours)));
    await ours.lunfs('down');
    for (const node of nodes) await node.shutdown();
    const checked = spawnSync('fsck.ocfs2', ['-fn', ours.device], { encoding: 'utf8' });
    if (!checked.stdout.includes('All passes succeeded.')) throw new Error(`fsck.ocfs2: ${checked.stdout}`);
    if (values.json) process.stdout.write(`${JSON.stringify({ rounds: ROUNDS, threshold: THRESHOLD, rows }, null, 2)}\n`);
    else printTable(`kernel nodes in virtual machines (${await provenAccel()}) on one LUN, T = ${THRESHOLD}, ${ROUNDS} rounds`, rows);
  } finally {
    for (const node of nodes) await node.kill();
    for (const host of hosts) await host.clean();
    await detachAll(lun);
    for (const one of [directory, path.dirname(lun)]) fs.rmSync(one, { recursive: true, force: true });
  }
}

/** A machine with the LUN as /dev/vda that is told of its cluster as its tools would; nothing is mounted. */
async function kernelNode(namespace, { name, device, node }, conf, signal) {
  const tap = `tap${node.number}`;
  ip('tuntap', 'add', tap, 'mode', 'tap');
  ip('link', 'set', tap, 'master', 'bridge', 'up');
  const machine = await Machine.start({ disks: [{ file: device }], root: 'tools', hostname: name, network: { namespace, tap, mac: `52:54:00:00:07:0${node.number}` }, signal });
  const at = '/sys/kernel/config/cluster/bench';
  await machine.must('cat > /etc/ocfs2/cluster.conf', { input: conf });
  await machine.must(`ip addr add ${node.address}/24 dev eth0 && ip link set eth0 up && mount -t configfs none /sys/kernel/config && mount -t ocfs2_dlmfs none /dlm && o2cb register-cluster bench && echo ${THRESHOLD} > ${at}/heartbeat/dead_threshold && echo ${IDLE_MS} > ${at}/idle_timeout_ms`);
  return machine;
}

async function mountKernel(node) {
  await node.must('mkdir -p /tmp/mnt && mount -t ocfs2 /dev/vda /tmp/mnt', { timeoutMs: 300_000 });
}

/** What cluster-work.mjs is on a host of ours, in the shell of a kernel node: no program is started while time is measured. */
function kernelWorker(node) {
  const verbs = {
    append: (file) => `echo 'a line of the host whose turn it is' >> /tmp/mnt/${file}`,
    mkdir: (directory) => `mkdir /tmp/mnt/${directory}`,
    create: (directory, prefix, count) => `for ((i = 0; i < ${count}; i++)); do : > /tmp/mnt/${directory}/${prefix}$i; done`,
  };
  return {
    ask: async (line) => {
      const [verb, ...args] = line.split(' ');
      const answer = await node.must(`set -e; a=$EPOCHREALTIME; ${verbs[verb](...args)}; b=$EPOCHREALTIME; echo $(( (\${b/./} - \${a/./}) ))`, { timeoutMs: 600_000 });
      return Number(answer) / 1000;
    },
  };
}

async function mount(nodes, ours) {
  const seconds = { kernel: [], ours: [] };
  const fourth = nodes[STAY];
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    await mountKernel(fourth);
    seconds.kernel.push(since(started) / 1000);
    await fourth.must('umount /tmp/mnt');
    seconds.ours.push((await ours.mountVolume()).ms / 1000);
    await ours.lunfs('umount', ours.mount);
  }
  const ratios = seconds.kernel.map((one, i) => one / seconds.ours[i]);
  return [
    tableRow('mount beside three kernel nodes: a kernel node', 's', seconds.kernel),
    tableRow('the same: a host of ours', 's', seconds.ours, `kernel/ours ${spread(ratios).median.toFixed(2)}; goal: above 1, ${spread(ratios).median > 1 ? 'met' : 'missed'}; fair: both wait for the heartbeat, though the kernel's processor is emulated`),
  ];
}

async function turns(nodes) {
  const [one, two] = nodes.map(kernelWorker);
  const [alone, inTurn] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    alone.push(await appendsInTurn(`alone${round}`, [one], TURNS / 4));
    inTurn.push(await appendsInTurn(`inTurn${round}`, [one, two], TURNS / 4));
  }
  return [
    tableRow('append to one file, one kernel node (lock cached)', 'ms', alone),
    tableRow('append to one file, two kernel nodes in turn', 'ms', inTurn, turnsBeside(alone, inTurn)),
  ];
}

async function create(nodes) {
  const [one, two] = nodes.map(kernelWorker);
  const [alone, both] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    alone.push(await createsTogether(`kalone-${round}`, [one]));
    both.push(await createsTogether(`kboth-${round}`, [one, two]));
  }
  return [
    tableRow(`create ${FILES} files in one directory, one kernel node`, '/s', alone),
    tableRow('create as many, two kernel nodes at once', '/s', both, `${(spread(both).median / spread(alone).median).toFixed(2)} of one node: the part that may be compared with ours`),
  ];
}
