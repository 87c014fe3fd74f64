// What the NBD benchmarks share: the cells, driven by `qemu-img bench`, and how their numbers are told.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';

export const MIB = 1 << 20;
const RANDOM_STEP = 12345 * 4096; // odd number of blocks: walks all of them pseudo-randomly

export const cells = [
  { name: '4k read qd1', block: 4096, depth: 1, step: RANDOM_STEP, write: false, count: 15_000, goal: 1.1 },
  { name: '4k read qd16', block: 4096, depth: 16, step: RANDOM_STEP, write: false, count: 40_000, goal: 1.1 },
  { name: '4k write qd1', block: 4096, depth: 1, step: RANDOM_STEP, write: true, count: 15_000, goal: 1.1 },
  { name: '4k write qd16', block: 4096, depth: 16, step: RANDOM_STEP, write: true, count: 40_000, goal: 1.1 },
  { name: '64k read qd16', block: 65_536, depth: 16, step: 65_536, write: false, count: 12_000, goal: 0.9 },
  { name: '64k write qd16', block: 65_536, depth: 16, step: 65_536, write: true, count: 12_000, goal: 0.9 },
  { name: '1M read qd4', block: MIB, depth: 4, step: MIB, write: false, count: 1000, goal: 0.9 },
  { name: '1M write qd4', block: MIB, depth: 4, step: MIB, write: true, count: 1000, goal: 0.9 },
];

/** A file whose every block is allocated and written, as a thick disk after its first use. */
export function prepare(file, size) {
  const fd = fs.openSync(file, 'w');
  const chunk = Buffer.alloc(4 * MIB);
  for (let i = 0; i < chunk.length; i += 4) chunk.writeUInt32LE((i * 2_654_435_761) >>> 0, i);
  for (let at = 0; at < size; at += chunk.length) fs.writeSync(fd, chunk, 0, Math.min(chunk.length, size - at));
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

/** Seconds that qemu-img itself counts, its start apart, for `count` requests of a cell. */
export function run(cell, uri, count = cell.count) {
  const args = ['bench', '-f', 'raw', '-t', 'none', '-c', String(count), '-d', String(cell.depth), '-s', String(cell.block), '-S', String(cell.step)];
  const { stdout, stderr, status } = spawnSync('qemu-img', [...args, ...(cell.write ? ['-w'] : []), uri], { encoding: 'utf8' });
  const seconds = /Run completed in ([\d.]+) seconds/.exec(stdout)?.[1];
  if (status !== 0 || seconds === undefined) throw new Error(`qemu-img ${args.join(' ')} ${uri}: ${stderr}`);
  return Number(seconds);
}

/** Processor time that a server has used so far: unlike its speed, hardly moved by what else the machine does. */
export function processorSeconds(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export function spread(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = sorted.length % 2 === 1 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { min: sorted[0], median, max: sorted.at(-1) };
}
