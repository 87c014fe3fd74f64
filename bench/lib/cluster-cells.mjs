// What the cluster benchmarks share: the work of one process on a host, pieces of work done by several in turn or at once, and the table. A worker
// has `ask(line)`, which resolves to the milliseconds that cluster-work.mjs, or what stands for it in a virtual machine, needed for that line.
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { spread } from './nbd.mjs';

/** Samples of silence after which a node is dead: the smallest that the tools accept. */
export const THRESHOLD = 7;
export const TURNS = 200;
export const CACHED = 2000;
export const FILES = 300;

export const since = (started) => performance.now() - started;

/** A worker in the mount of a host of ours. */
export function worker(host) {
  const child = host.start(process.execPath, [path.join(import.meta.dirname, 'cluster-work.mjs'), host.mount], 'pipe');
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

/** Milliseconds of an append to one file, the workers taking turns. */
export async function appendsInTurn(file, workers, turns = TURNS) {
  for (const one of workers) await one.ask(`append ${file}`);
  let ms = 0;
  for (let i = 0; i < turns; i++) ms += await workers[i % workers.length].ask(`append ${file}`);
  return ms / turns;
}

/** Files created per second in one new directory, each worker its share of them at the same time. */
export async function createsTogether(directory, workers, files = FILES) {
  await workers[0].ask(`mkdir ${directory}`);
  const ms = await Promise.all(workers.map((one, i) => one.ask(`create ${directory} ${'abcd'[i]} ${files / workers.length}`)));
  return files / (Math.max(...ms) / 1000);
}

/** What is said beside the row of appends in turn. */
export function turnsBeside(alone, inTurn) {
  return `${(spread(inTurn).median - spread(alone).median).toFixed(1)} ms for a lock that changes hands, with all that must be on the disk before`;
}

export function tableRow(name, unit, samples, beside) {
  return { name, unit, ...spread(samples), beside };
}

export function printTable(title, rows) {
  console.log(`\n${title} (median, min to max), load ${os.loadavg()[0].toFixed(1)}`);
  for (const { name, unit, min, median, max, beside } of rows) {
    const text = (value) => value.toFixed(unit === '/s' ? 0 : 2);
    console.log(`${name.padEnd(60)} ${text(median).padStart(8)} ${unit.padEnd(3)} (${text(min)} to ${text(max)})${beside === undefined ? '' : `  ${beside}`}`);
  }
}
