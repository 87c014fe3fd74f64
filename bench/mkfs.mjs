// Formatting: formatVolume on the file device against mkfs.ocfs2, on fresh files (sparse, and fully written before) of the same size with the same
// options; rounds alternate, what counts is the ratio within a round (theirs / ours: above 1 we are faster). Both discard and flush.
// Takes about 1 minute. usage: node bench/mkfs.mjs [--rounds N] [--dir DIRECTORY] [--json]
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openDevice } from '@lunfs/device';
import { formatVolume } from '@lunfs/ocfs2';
import { have } from './lib/needs.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, dir: { type: 'string', default: os.tmpdir() }, json: { type: 'boolean', default: false } } });
if (!have('bench/mkfs', 'mkfs.ocfs2')) process.exit(0);
const GIB = 2 ** 30;
const cells = [
  { name: 'default, 1 GiB sparse', size: GIB, args: [], options: {} },
  { name: 'default, 1 GiB written', size: GIB, written: true, args: ['--nodiscard'], options: { discard: false } },
  { name: 'default, 16 GiB sparse', size: 16 * GIB, args: [], options: {} },
  { name: 'vmstore, 100 GiB sparse', size: 100 * GIB, args: ['-T', 'vmstore'], options: { type: 'vmstore' } },
  { name: 'vmstore, 1 TiB sparse', size: 1024 * GIB, args: ['-T', 'vmstore'], options: { type: 'vmstore' } },
];
const directory = fs.mkdtempSync(path.join(values.dir, 'lunfs-bench-mkfs-'));
const file = path.join(directory, 'volume');

function fresh({ size, written = false }) {
  fs.rmSync(file, { force: true });
  const fd = fs.openSync(file, 'wx');
  fs.ftruncateSync(fd, size);
  const noise = Buffer.alloc(2 ** 20, 0x5a);
  for (let at = 0; written && at < size; at += noise.length) fs.writeSync(fd, noise, 0, noise.length, at);
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

async function ours({ options }) {
  const started = performance.now();
  const device = await openDevice(file, { write: true, warn: () => {} });
  await formatVolume(device, options, { random: { u32: () => Math.floor(Math.random() * 2 ** 32) }, time: Math.floor(Date.now() / 1000) });
  await device.close();
  return performance.now() - started;
}

function theirs({ args }) {
  const started = performance.now();
  const { status, stderr } = spawnSync('mkfs.ocfs2', ['-q', '-F', ...args, file], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`mkfs.ocfs2: ${stderr}`);
  return performance.now() - started;
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const rows = [];
try {
  for (const cell of cells) {
    const rounds = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      const result = {};
      for (const side of round % 2 === 0 ? ['ours', 'theirs'] : ['theirs', 'ours']) {
        fresh(cell);
        result[side] = side === 'ours' ? await ours(cell) : theirs(cell);
      }
      rounds.push(result);
    }
    rows.push({ cell: cell.name, ours: median(rounds.map((r) => r.ours)), theirs: median(rounds.map((r) => r.theirs)), ratio: median(rounds.map((r) => r.theirs / r.ours)) });
  }
} finally {
  fs.rmSync(directory, { recursive: true, force: true });
}
if (values.json) console.log(JSON.stringify(rows));
else for (const { cell, ours, theirs, ratio } of rows) console.log(`${cell.padEnd(26)} lunfs ${ours.toFixed(0).padStart(6)} ms   mkfs.ocfs2 ${theirs.toFixed(0).padStart(6)} ms   ratio ${ratio.toFixed(2)}`);
