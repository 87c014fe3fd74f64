// A cluster of lunfs hosts on this machine, over one LUN in a file (T = 7): mounting into a live cluster of three, appending in turn from two hosts,
// operations under locks that are cached, creating in one directory from one host and from two, and death until a survivor's first write.
// No opponent: Linux's nodes can run here only in virtual machines without KVM, whose processor is ten times slower; a ratio would say nothing of
// either. Rows are set against themselves on one host, or against the configured time-outs. Needs root (FUSE, loop devices).
// Takes about 2 minutes. usage: node bench/cluster.mjs [--rounds N] [--dir DIRECTORY] [--json]
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { clusterHosts, detachAll } from '../scripts/lib/hosts.mjs';
import { oracleMissing } from '../scripts/lib/oracles.mjs';
import { spread } from './lib/nbd.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' }, dir: { type: 'string', default: os.tmpdir() }, json: { type: 'boolean', default: false } } });
const ROUNDS = Number(values.rounds);
const TURNS = 200;
const CACHED = 2000;
const FILES = 300;
const THRESHOLD = 7;
const DEAD_MS = THRESHOLD * 2000;
/** Mounted before the fourth comes; the third is the one that dies. */
const HOSTS = 4;

const why = oracleMissing('fuse') ?? oracleMissing('loop');
if (why) {
  console.log(`bench/cluster: left out: ${why}`);
  process.exit(0);
}

/** A worker on a host; `ask` resolves to the milliseconds that it needed. */
function worker(host) {
  const child = host.start(process.execPath, [path.join(import.meta.dirname, 'lib/cluster-work.mjs'), host.mount], 'pipe');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  child.stderr.pipe(process.stderr);
  child.on('error', () => undefined); // stopped: the next question tells
  return {
    ask: async (line) => {
      child.stdin.write(`${line}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`${host.name}: the worker has ended at "${line}"`);
      return Number(value);
    },
    end: () => child.kill('SIGKILL'),
  };
}

const rows = [];
function row(name, unit, samples, beside) {
  const { min, median, max } = spread(samples);
  rows.push({ name, unit, min, median, max, beside });
}

const since = (started) => performance.now() - started;
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
  const [first, second, third, fourth] = hosts;
  await first.lunfs('mkfs', '-q', '-F', '-N', String(HOSTS), '-b', '4K', '-C', '4K', '--cluster-stack', 'o2cb', '--cluster-name', 'bench', first.device);
  await Promise.all(hosts.map((host) => host.up()));
  for (const host of [first, second, third]) await host.mountVolume();

  const mounts = [];
  for (let round = 0; round < ROUNDS; round++) {
    mounts.push((await fourth.mountVolume()).ms / 1000);
    await fourth.lunfs('umount', fourth.mount);
  }
  row('mount into a live cluster of three', 's', mounts, 'of which 4 s are two beats that must be seen');

  const [one, two] = [worker(first), worker(second)];
  const turns = { alone: [], inTurn: [] };
  const rates = { stat: [], write: [] };
  const creates = { alone: [], both: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [kind, other] of [['alone', one], ['inTurn', two]]) {
      await other.ask(`append turns${round}${kind}`);
      await one.ask(`append turns${round}${kind}`);
      const started = performance.now();
      for (let i = 0; i < TURNS; i++) await (i % 2 === 0 ? other : one).ask(`append turns${round}${kind}`);
      turns[kind].push(since(started) / TURNS);
    }
    await one.ask(`append cached${round}`);
    for (const verb of ['stat', 'write']) rates[verb].push(CACHED / ((await one.ask(`${verb} cached${round} ${CACHED}`)) / 1000));
    await first.sh(`mkdir $M/alone${round} $M/both${round}`);
    creates.alone.push(FILES / ((await one.ask(`create alone${round} a ${FILES}`)) / 1000));
    const started = performance.now();
    await Promise.all([one.ask(`create both${round} a ${FILES / 2}`), two.ask(`create both${round} b ${FILES / 2}`)]);
    creates.both.push(FILES / (since(started) / 1000));
  }
  one.end();
  two.end();
  row('append to one file, one host (lock cached)', 'ms', turns.alone);
  row('append to one file, two hosts in turn', 'ms', turns.inTurn, `${(spread(turns.inTurn).median - spread(turns.alone).median).toFixed(1)} ms for a lock that changes hosts, flushes included`);
  row('stat under a cached lock', '/s', rates.stat);
  row('4 KiB rewrite in place under cached locks', '/s', rates.write);
  row('create in one directory, one host', '/s', creates.alone);
  row('create in one directory, two hosts at once', '/s', creates.both, `${(spread(creates.both).median / spread(creates.alone).median).toFixed(2)} of one host`);

  const deaths = [];
  for (let round = 0; round < ROUNDS; round++) {
    await third.sh('echo mine > $M/held && sync $M/held');
    const started = performance.now();
    third.kill();
    await first.sh('echo survivor >> $M/held && sync $M/held');
    deaths.push(since(started) / 1000);
    await third.clean();
    await third.up();
    await third.mountVolume();
  }
  row('SIGKILL of a host until a survivor writes what it held', 's', deaths, `configured: silent for ${DEAD_MS / 1000} s is dead; goal: within 2 s of it (${spread(deaths).median * 1000 <= DEAD_MS + 2000 ? 'met' : 'missed'})`);
  await Promise.all(hosts.map((host) => host.lunfs('down')));
  const checked = spawnSync('fsck.ocfs2', ['-fn', first.device], { encoding: 'utf8' });
  if (checked.error === undefined && !checked.stdout.includes('All passes succeeded.')) throw new Error(`fsck.ocfs2: ${checked.stdout}`);
  print();
} finally {
  for (const host of hosts) await host.clean();
  await detachAll(lun);
  for (const one of [directory, path.dirname(lun)]) fs.rmSync(one, { recursive: true, force: true });
}

function print() {
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ rounds: ROUNDS, threshold: THRESHOLD, rows }, null, 2)}\n`);
    return;
  }
  console.log(`\nlunfs hosts on one LUN, T = ${THRESHOLD}, ${ROUNDS} rounds (median, min to max), load ${os.loadavg()[0].toFixed(1)}`);
  for (const { name, unit, min, median, max, beside } of rows) {
    const text = (value) => value.toFixed(unit === '/s' ? 0 : 2);
    console.log(`${name.padEnd(56)} ${text(median).padStart(8)} ${unit.padEnd(3)} (${text(min)} to ${text(max)})${beside === undefined ? '' : `  ${beside}`}`);
  }
}
