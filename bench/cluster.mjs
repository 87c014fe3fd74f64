// A cluster of lunfs hosts on this machine, over one LUN in a file (T = 7): mounting into a live cluster of three, appending in turn from two hosts,
// operations under locks that are cached, creating in one directory from one host and from two, and death until a survivor's first write. Rows are
// set against one host alone, or against the configured time-outs. Needs root (FUSE, loop devices).
// Takes about 3 minutes. usage: node bench/cluster.mjs [--rounds N] [--cell NAME] [--dir DIRECTORY] [--json]
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { clusterHosts, detachAll } from '../scripts/lib/hosts.mjs';
import { oracleMissing } from '../scripts/lib/oracles.mjs';
import { CACHED, FILES, THRESHOLD, TURNS, appendsInTurn, createsTogether, printTable, since, tableRow, turnsBeside, worker } from './lib/cluster-cells.mjs';
import { spread } from './lib/nbd.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' }, cell: { type: 'string' }, dir: { type: 'string', default: os.tmpdir() }, json: { type: 'boolean', default: false } } });
const ROUNDS = Number(values.rounds);
const DEAD_MS = THRESHOLD * 2000;
/** What a survivor may need beyond the time after which silence is death. */
const GOAL_MS = 2000;
/** Three are mounted before the fourth comes; the third is the one that dies. */
const HOSTS = 4;

const cells = { mount, turns, cached, create, death };
const chosen = Object.keys(cells).filter((name) => values.cell === undefined || name === values.cell);
const why = oracleMissing('fuse') ?? oracleMissing('loop');
if (why !== undefined) console.log(`bench/cluster: left out: ${why}`);
else if (chosen.length === 0) {
  console.error(`no cell ${values.cell}; there are ${Object.keys(cells).join(', ')}`);
  process.exitCode = 2;
} else await bench();

async function bench() {
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stopping.abort());
  const directory = fs.mkdtempSync('/tmp/lunfs-bench-');
  const lun = path.join(fs.mkdtempSync(path.join(values.dir, 'lunfs-bench-lun-')), 'lun');
  let hosts = [];
  try {
    fs.closeSync(fs.openSync(lun, 'w'));
    fs.truncateSync(lun, 2 ** 30);
    spawnSync('fallocate', ['-l', String(2 ** 30), lun]);
    hosts = await clusterHosts(directory, lun, { count: HOSTS, cluster: 'bench', settings: { O2CB_HEARTBEAT_THRESHOLD: THRESHOLD, O2CB_IDLE_TIMEOUT_MS: 5000 }, signal: stopping.signal });
    await hosts[0].lunfs('mkfs', '-q', '-F', '-N', String(HOSTS), '-b', '4K', '-C', '4K', '--cluster-stack', 'o2cb', '--cluster-name', 'bench', hosts[0].device);
    await Promise.all(hosts.map((host) => host.up()));
    for (const host of hosts.slice(0, 3)) await host.mountVolume();
    const rows = [];
    for (const name of chosen) rows.push(...(await cells[name](hosts)));
    await Promise.all(hosts.map((host) => host.lunfs('down')));
    const checked = spawnSync('fsck.ocfs2', ['-fn', hosts[0].device], { encoding: 'utf8' });
    if (checked.error === undefined && !checked.stdout.includes('All passes succeeded.')) throw new Error(`fsck.ocfs2: ${checked.stdout}`);
    if (values.json) process.stdout.write(`${JSON.stringify({ rounds: ROUNDS, threshold: THRESHOLD, rows }, null, 2)}\n`);
    else printTable(`lunfs hosts on one LUN, T = ${THRESHOLD}, ${ROUNDS} rounds`, rows);
  } finally {
    for (const host of hosts) await host.clean();
    await detachAll(lun);
    for (const one of [directory, path.dirname(lun)]) fs.rmSync(one, { recursive: true, force: true });
  }
}

async function mount([, , , fourth]) {
  const seconds = [];
  for (let round = 0; round < ROUNDS; round++) {
    seconds.push((await fourth.mountVolume()).ms / 1000);
    await fourth.lunfs('umount', fourth.mount);
  }
  return [tableRow('mount into a live cluster of three', 's', seconds, 'of which 8 s are the heartbeat\'s to settle, by o2cb\'s rules')];
}

async function turns([first, second]) {
  const [one, two] = [worker(first), worker(second)];
  const [alone, inTurn] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    alone.push(await appendsInTurn(`alone${round}`, [one]));
    inTurn.push(await appendsInTurn(`inTurn${round}`, [one, two]));
  }
  for (const each of [one, two]) each.end();
  return [
    tableRow(`append to one file, one host (${TURNS} times, lock cached)`, 'ms', alone),
    tableRow('append to one file, two hosts in turn', 'ms', inTurn, turnsBeside(alone, inTurn)),
  ];
}

async function cached([first]) {
  const one = worker(first);
  const rates = { stat: [], write: [] };
  for (let round = 0; round < ROUNDS; round++) {
    await one.ask(`append cached${round}`);
    for (const verb of ['stat', 'write']) rates[verb].push(CACHED / ((await one.ask(`${verb} cached${round} ${CACHED}`)) / 1000));
  }
  one.end();
  return [tableRow('stat under a cached lock', '/s', rates.stat), tableRow('4 KiB rewrite in place under cached locks', '/s', rates.write)];
}

async function create([first, second]) {
  const [one, two] = [worker(first), worker(second)];
  const [alone, both] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    alone.push(await createsTogether(`alone-${round}`, [one]));
    both.push(await createsTogether(`both-${round}`, [one, two]));
  }
  for (const each of [one, two]) each.end();
  return [
    tableRow(`create ${FILES} files in one directory, one host`, '/s', alone),
    tableRow('create as many, two hosts at once', '/s', both, `${(spread(both).median / spread(alone).median).toFixed(2)} of one host`),
  ];
}

/** The survivor's lock is held by the dead host, who has written under it what no other node has seen in place. */
async function death([first, , third]) {
  const seconds = [];
  for (let round = 0; round < ROUNDS; round++) {
    await third.sh('echo mine > $M/held && sync $M/held');
    const started = performance.now();
    third.kill();
    await first.sh('echo survivor >> $M/held && sync $M/held');
    seconds.push(since(started) / 1000);
    await third.clean();
    await third.up();
    await third.returns();
  }
  const met = spread(seconds).max * 1000 <= DEAD_MS + GOAL_MS ? 'met' : 'missed';
  return [tableRow('SIGKILL of a host until a survivor writes what it held', 's', seconds, `silence of ${DEAD_MS / 1000} s is death; goal: within ${GOAL_MS / 1000} s of it, ${met}`)];
}
