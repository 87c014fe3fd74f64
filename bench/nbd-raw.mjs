// Our NBD server over a thick file (one identity extent, O_DIRECT) against `qemu-nbd --cache=none --aio=native` on the same file, driven by
// `qemu-img bench`. Rounds alternate between the two, because the machine moves more between minutes than the servers differ: what counts is
// the ratio within a round. Takes about 3 minutes. usage: node bench/nbd-raw.mjs [--rounds N] [--size MIB] [--dir DIRECTORY] [--cell NAME] [--json]
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { Gate } from '@lunfs/device';
import { NbdServer } from '@lunfs/nbd';
import { have } from './lib/needs.mjs';
import { MIB, cells as allCells, prepare, processorSeconds, run, spread } from './lib/nbd.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' }, size: { type: 'string', default: '512' }, dir: { type: 'string', default: os.tmpdir() },
    cell: { type: 'string' }, json: { type: 'boolean', default: false }, serve: { type: 'string' },
  },
});
const size = Number(values.size) * MIB;
const cells = allCells.filter((cell) => values.cell === undefined || cell.name.startsWith(values.cell));

if (values.serve !== undefined) await serve(values.serve);
else if (have('bench/nbd-raw', 'qemu-nbd', 'qemu-img')) await compare();

/** Our side, in a process of its own as qemu-nbd is. */
async function serve(directory) {
  const fd = fs.openSync(path.join(directory, 'disk.raw'), fs.constants.O_RDWR | fs.constants.O_DIRECT);
  const gate = new Gate();
  const refuse = async () => { throw new Error('the benchmark stays inside its one extent'); };
  const server = new NbdServer({ report: console.error });
  server.addExport({
    name: 'disk',
    multiConn: true,
    backend: {
      size, readOnly: false, direct: { fd, alignment: 4096, gate },
      map: async () => ({ epoch: gate.epoch, runs: [{ offset: 0, length: size, device: 0 }] }),
      // The first request of a connection comes here, and brings the map back.
      read: async (offset, into) => { fs.readSync(fd, into, 0, into.length, offset); },
      write: async (offset, from) => { fs.writeSync(fd, from, 0, from.length, offset); },
      flush: async () => { fs.fdatasyncSync(fd); },
      status: async (offset, length) => [{ offset, length, kind: 'data' }],
      trim: refuse, writeZeroes: refuse, close: async () => {},
    },
  });
  await server.listenUnix(path.join(directory, 'ours.sock'));
  process.stdout.write('ready\n');
  process.stdin.resume().on('end', () => process.exit(0));
}

async function compare() {
  const directory = fs.mkdtempSync(path.join(values.dir, 'lunfs-bench-'));
  const children = [];
  try {
    const file = path.join(directory, 'disk.raw');
    prepare(file, size);
    const theirs = path.join(directory, 'theirs.sock');
    children.push(spawn('qemu-nbd', ['--persistent', '--shared=0', '--format=raw', '--cache=none', '--aio=native', '-k', theirs, file], { stdio: 'inherit' }));
    while (!fs.existsSync(theirs)) await new Promise((resolve) => { setTimeout(resolve, 20); });
    const ours = spawn(process.execPath, [process.argv[1], '--serve', directory, '--size', values.size], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(ours);
    await new Promise((resolve) => { ours.stdout.once('data', resolve); });
    const pids = { theirs: children[0].pid, ours: ours.pid };
    const uris = { theirs: `nbd+unix:///?socket=${theirs}`, ours: `nbd+unix:///disk?socket=${path.join(directory, 'ours.sock')}` };
    const results = cells.map((cell) => ({ ...cell, theirs: [], ours: [], ratios: [], cpu: { theirs: [], ours: [] } }));
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const result of results) {
        const order = round % 2 === 0 ? ['theirs', 'ours'] : ['ours', 'theirs'];
        for (const side of order) {
          const before = processorSeconds(pids[side]);
          result[side].push(result.count / run(result, uris[side]));
          result.cpu[side].push(((processorSeconds(pids[side]) - before) * 1e6) / result.count);
        }
        result.ratios.push(result.ours.at(-1) / result.theirs.at(-1));
      }
      if (!values.json) process.stderr.write(`round ${round + 1} of ${values.rounds} done\n`);
    }
    print(results);
  } finally {
    for (const child of children) child.kill();
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

function print(results) {
  const rows = results.map((result) => ({ name: result.name, goal: result.goal, theirs: spread(result.theirs), ours: spread(result.ours), ratio: spread(result.ratios), cpu: { theirs: spread(result.cpu.theirs), ours: spread(result.cpu.ours) } }));
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ anchor: 'qemu-nbd --cache=none --aio=native', rounds: Number(values.rounds), rows }, null, 2)}\n`);
    return;
  }
  const whole = (value) => String(Math.round(value)).padStart(7);
  process.stdout.write(`\nNBD over a thick file, ${values.size} MiB, ratio to qemu-nbd --cache=none --aio=native, ${values.rounds} alternating rounds\n`);
  process.stdout.write('cell             qemu-nbd/s  lunfs/s    min  median    max   goal   server CPU us per request (qemu-nbd, lunfs)\n');
  for (const row of rows) {
    const ratio = [row.ratio.min, row.ratio.median, row.ratio.max].map((value) => value.toFixed(2).padStart(6)).join(' ');
    process.stdout.write(`${row.name.padEnd(16)} ${whole(row.theirs.median)} ${whole(row.ours.median)}    ${ratio}  ${row.goal.toFixed(2)} ${row.cpu.theirs.median.toFixed(1).padStart(8)} ${row.cpu.ours.median.toFixed(1).padStart(8)}${row.ratio.median < row.goal ? '  below' : ''}\n`);
  }
}
