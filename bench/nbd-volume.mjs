// Disks of a lunfs volume through NBD against `qemu-nbd --cache=none --aio=native` on a raw file: a thick disk (the row that has a goal), a thin
// one that has been written all over before, and the first write to a thin one, where every request allocates and waits for the journal.
// Both sides lie on the same file system; rounds alternate, what counts is the ratio within a round.
// Takes about 5 minutes. usage: node bench/nbd-volume.mjs [--rounds N] [--size MIB] [--dir DIRECTORY] [--cell NAME] [--json]
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { benchVolume } from './lib/volume.mjs';
import { have } from './lib/needs.mjs';
import { MIB, cells as allCells, prepare, processorSeconds, run, spread } from './lib/nbd.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' }, size: { type: 'string', default: '512' }, dir: { type: 'string', default: os.tmpdir() },
    cell: { type: 'string' }, json: { type: 'boolean', default: false },
  },
});
const size = Number(values.size) * MIB;
const cells = allCells.filter((cell) => values.cell === undefined || cell.name.startsWith(values.cell));
/** First writes are few: each allocates, and a disk has only so many first writes. */
const FIRST = 20;
const SIDES = ['thick', 'thin', 'first'];

if (!have('bench/nbd-volume', 'qemu-nbd', 'qemu-img', 'mkfs.ocfs2')) process.exit(0);
const directory = fs.mkdtempSync(path.join(values.dir, 'lunfs-bench-'));
const undo = [() => fs.rmSync(directory, { recursive: true, force: true })];
try {
  const raw = path.join(directory, 'raw');
  prepare(raw, size);
  const socket = path.join(directory, 'theirs.sock');
  const theirs = spawn('qemu-nbd', ['--persistent', '--shared=0', '--format=raw', '--cache=none', '--aio=native', '-k', socket, raw], { stdio: 'inherit' });
  undo.push(() => theirs.kill());
  while (!fs.existsSync(socket)) await new Promise((resolve) => { setTimeout(resolve, 20); });
  const disk = (name, allocation) => ({ path: `/${name}.raw`, size, allocation });
  const volume = await benchVolume(directory, { bytes: 3 * size + 512 * MIB, disks: [disk('thick', 'thick-zeroed'), disk('thin', 'thin'), disk('first', 'thin')] });
  undo.push(() => volume.close());
  const uris = Object.fromEntries((await volume.control.status()).exports.map(({ name, uri }) => [name.replace('.raw', ''), uri]));
  // Real bytes everywhere: a disk of zeroes may be read without touching the device.
  for (const side of ['thick', 'thin']) {
    const { status, stderr } = spawnSync('qemu-img', ['convert', '-n', '-U', '-f', 'raw', '-O', 'raw', '-S', '0', raw, uris[side]], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the ${side} disk could not be filled: ${stderr}`);
  }
  const results = cells.map((cell) => ({ ...cell, theirs: [], cpu: { theirs: [], thick: [] }, sides: Object.fromEntries(SIDES.map((side) => [side, { rates: [], ratios: [] }])) }));
  const measured = (cell, uri, pid, cpu, count = cell.count) => {
    const before = processorSeconds(pid);
    const rate = count / run(cell, uri, count);
    cpu?.push(((processorSeconds(pid) - before) * 1e6) / count);
    return rate;
  };
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const result of results) {
      const order = round % 2 === 0 ? ['theirs', 'thick', 'thin'] : ['thin', 'thick', 'theirs'];
      for (const side of order) {
        if (side === 'theirs') result.theirs.push(measured(result, `nbd+unix:///?socket=${socket}`, theirs.pid, result.cpu.theirs));
        else result.sides[side].rates.push(measured(result, uris[side], volume.pid, side === 'thick' ? result.cpu.thick : undefined));
      }
      if (result.write) {
        await volume.control.removeExport('first.raw');
        await volume.control.removeDisk('/first.raw');
        await volume.control.createDisk('/first.raw', { size, allocation: 'thin' });
        await volume.control.addExport({ path: '/first.raw' });
        result.sides.first.rates.push(measured(result, uris.first, volume.pid, undefined, Math.min(Math.floor(result.count / FIRST), Math.floor(size / result.block))));
      }
      for (const side of SIDES) if (result.sides[side].rates.length > 0) result.sides[side].ratios.push(result.sides[side].rates.at(-1) / result.theirs.at(-1));
    }
    if (!values.json) process.stderr.write(`round ${round + 1} of ${values.rounds} done\n`);
  }
  print(results);
} finally {
  for (const step of undo.reverse()) await step();
}

function print(results) {
  const rows = results.map(({ name, goal, theirs, sides, cpu }) => ({
    name, goal, theirs: spread(theirs).median, cpu: { theirs: spread(cpu.theirs).median, thick: spread(cpu.thick).median },
    sides: Object.fromEntries(SIDES.filter((side) => sides[side].rates.length > 0).map((side) => [side, { perSecond: spread(sides[side].rates).median, ratio: spread(sides[side].ratios) }])),
  }));
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ anchor: 'qemu-nbd --cache=none --aio=native', rounds: Number(values.rounds), rows }, null, 2)}\n`);
    return;
  }
  process.stdout.write(`\nNBD over disks of a lunfs volume, ${values.size} MiB, ratio to qemu-nbd --cache=none --aio=native on a raw file, ${values.rounds} alternating rounds (min/median/max)\n`);
  process.stdout.write('cell             qemu-nbd/s    thick/s  thick             goal   thin, written     thin, first write  CPU us per request (qemu-nbd, thick)\n');
  for (const row of rows) {
    const ratio = (side) => (row.sides[side] ? [row.sides[side].ratio.min, row.sides[side].ratio.median, row.sides[side].ratio.max].map((value) => value.toFixed(2)).join('/') : '-').padEnd(17);
    const whole = (value) => String(Math.round(value)).padStart(10);
    const below = row.sides.thick.ratio.median < row.goal ? '  below' : '';
    process.stdout.write(`${row.name.padEnd(16)} ${whole(row.theirs)} ${whole(row.sides.thick.perSecond)}  ${ratio('thick')} ${row.goal.toFixed(2)}   ${ratio('thin')} ${ratio('first')}  ${row.cpu.theirs.toFixed(1).padStart(6)} ${row.cpu.thick.toFixed(1).padStart(6)}${below}\n`);
  }
}
