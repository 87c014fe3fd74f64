// Verifying: `lunfs check` against `fsck.ocfs2 -fn`, and `lunfs ls -lR` against `debugfs.ocfs2 -R "ls -l"`, on volumes that the engine filled; both as
// programs, from start to end, in alternating rounds. What counts is the ratio within a round (theirs / ours: above 1 we are faster) and the peak memory.
// fsck.ocfs2 zeroes a cache as large as the volume, up to half the memory; with its address space limited it does without and is
// mostly faster, so each round runs it both ways and compares with the faster one.
// Takes about 5 minutes. usage: node bench/check.mjs [--rounds N] [--dir DIRECTORY] [--only TEXT] [--big] [--keep] [--json]
//   --big: also 1,000,000 files (about 4 GiB and some minutes to make); --keep: leave the volumes in DIRECTORY and use them again
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openIoWorkerDevice } from '@lunfs/device';
import { Volume, fallocate, formatVolume, writeFile } from '@lunfs/ocfs2';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' }, dir: { type: 'string', default: os.tmpdir() }, only: { type: 'string', default: '' },
    big: { type: 'boolean', default: false }, keep: { type: 'boolean', default: false }, json: { type: 'boolean', default: false },
  },
});
const GIB = 2 ** 30;
const LUNFS = path.resolve(import.meta.dirname, '../packages/cli/bin/lunfs.cjs');
const LIMIT = `--as=${256 << 20}`;

const FILE = { mode: 0o100644, uid: 0, gid: 0 }, DIRECTORY = { mode: 0o040755, uid: 0, gid: 0 };

async function create(volume, dir, name, spec) {
  const made = await volume.names.create(dir, Buffer.from(name), spec);
  await volume.names.forget(made.blkno);
  return made.blkno;
}

/** `count` files of 6000 bytes, every fourth in the inode itself, a thousand per directory. */
async function manyFiles(volume, count) {
  const large = Buffer.alloc(6000, 'x'), small = large.subarray(0, 900);
  for (let d = 0; d * 1000 < count; d++) {
    const dir = await create(volume, volume.names.root, `directory-${d}`, DIRECTORY);
    for (let i = 0; i < 1000; i++) {
      const file = await create(volume, dir, `file number ${i}.dat`, FILE);
      await writeFile(volume.ctx, file, 0, i % 4 === 0 ? small : large);
    }
  }
}

/** One directory of `count` empty files. */
async function oneDirectory(volume, count) {
  const dir = await create(volume, volume.names.root, 'all', DIRECTORY);
  for (let i = 0; i < count; i++) await create(volume, dir, `entry-${i}`, FILE);
}

/** 32 reserved disks, as large as the volume lets them be. */
async function largeFiles(volume, bytes) {
  const dir = await create(volume, volume.names.root, 'images', DIRECTORY);
  for (let i = 0; i < 32; i++) {
    const file = await create(volume, dir, `disk-${i}.raw`, FILE);
    await fallocate(volume.ctx, file, 'reserve', 0, Math.floor((bytes * 0.98) / 32), false);
  }
}

const CHECK = { ours: ['check', '-q'], theirs: ['fsck.ocfs2', '-fn'] };
const LIST = { ours: ['ls', '-lR'], path: ':/all', theirs: ['debugfs.ocfs2', '-R', 'ls -l /all'] };
const CELLS = [
  { name: 'check: 100,000 files', volume: 'files', size: 8 * GIB, fill: (v) => manyFiles(v, 100_000), ...CHECK },
  { name: 'check: 100,000 files, metaecc', volume: 'files-ecc', size: 8 * GIB, mkfs: { features: 'metaecc' }, fill: (v) => manyFiles(v, 100_000), ...CHECK },
  { name: 'check: 1,000,000 files', volume: 'million', size: 24 * GIB, big: true, fill: (v) => manyFiles(v, 1_000_000), ...CHECK },
  { name: 'check: one directory of 100,000', volume: 'entries', size: 4 * GIB, fill: (v) => oneDirectory(v, 100_000), ...CHECK },
  { name: 'check: 2 TiB of disks, 1M clusters', volume: 'disks', size: 2048 * GIB, mkfs: { clusterSize: 2 ** 20 }, fill: (v) => largeFiles(v, 2048 * GIB), ...CHECK },
  { name: 'check: 2 TiB of disks, 4K clusters', volume: 'disks-4k', size: 2048 * GIB, mkfs: { clusterSize: 4096 }, fill: (v) => largeFiles(v, 2048 * GIB), ...CHECK },
  { name: 'list and stat: 100,000 entries', volume: 'entries', size: 4 * GIB, fill: (v) => oneDirectory(v, 100_000), ...LIST },
].filter(({ name, big = false }) => (values.big || !big) && name.includes(values.only));

async function populate(file, { size, mkfs, fill }) {
  fs.closeSync(fs.openSync(`${file}.new`, 'w'));
  fs.truncateSync(`${file}.new`, size);
  const device = await openIoWorkerDevice(`${file}.new`, { write: true, warn: () => {} });
  let seed = 1;
  const u32 = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0);
  await formatVolume(device, { mount: 'local', slots: 2, blockSize: 4096, clusterSize: 4096, ...mkfs }, { random: { u32 }, time: 1_700_000_000 });
  const volume = await Volume.mount(device);
  await fill(volume);
  await volume.unmount();
  await device.close();
  fs.renameSync(`${file}.new`, file);
}

/** Run a program; wall-clock milliseconds and peak resident KiB, by time(1). */
function measured(program, args) {
  const report = path.join(directory, 'time');
  const started = performance.now();
  const { status, stderr } = spawnSync('/usr/bin/time', ['-o', report, '-f', '%M', program, ...args], { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  const ms = performance.now() - started;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: status ${status}: ${stderr}`);
  return { ms, kib: Number(fs.readFileSync(report, 'utf8').trim().split('\n').at(-1)) };
}

function ours({ ours: [command, ...flags], path: at = '' }, file) {
  return measured(process.execPath, [LUNFS, command, ...flags, `${file}${at}`]);
}

function theirs({ theirs: [program, ...args] }, file) {
  const runs = [measured(program, [...args, file])];
  if (program === 'fsck.ocfs2') runs.push(measured('prlimit', [LIMIT, program, ...args, file]));
  return { ms: Math.min(...runs.map((r) => r.ms)), kib: runs[0].kib, limitedKib: runs.at(-1).kib, all: runs.map((r) => r.ms) };
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const directory = values.keep ? values.dir : fs.mkdtempSync(path.join(values.dir, 'lunfs-bench-check-'));
const rows = [];
try {
  for (const cell of CELLS) {
    const file = path.join(directory, cell.volume);
    if (!fs.existsSync(file)) await populate(file, cell);
    const rounds = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      const result = {};
      for (const side of round % 2 === 0 ? ['ours', 'theirs'] : ['theirs', 'ours']) result[side] = side === 'ours' ? ours(cell, file) : theirs(cell, file);
      rounds.push(result);
    }
    rows.push({
      cell: cell.name, ours: median(rounds.map((r) => r.ours.ms)), theirs: median(rounds.map((r) => r.theirs.ms)), ratio: median(rounds.map((r) => r.theirs.ms / r.ours.ms)),
      oursMib: Math.max(...rounds.map((r) => r.ours.kib)) / 1024, theirsMib: Math.min(...rounds.map((r) => r.theirs.kib)) / 1024, theirsLimitedMib: Math.min(...rounds.map((r) => r.theirs.limitedKib)) / 1024,
    });
    if (!values.json) printRow(rows.at(-1));
  }
} finally {
  if (!values.keep) fs.rmSync(directory, { recursive: true, force: true });
}
if (values.json) console.log(JSON.stringify(rows));

function printRow({ cell, ours: mine, theirs: other, ratio, oursMib, theirsMib, theirsLimitedMib }) {
  const ms = (n) => `${n.toFixed(0)} ms`.padStart(9), mib = (n) => `${n.toFixed(0)} MiB`.padStart(9);
  console.log(`${cell.padEnd(36)} lunfs ${ms(mine)} ${mib(oursMib)}   ocfs2-tools ${ms(other)} ${mib(theirsMib)} (limited ${mib(theirsLimitedMib).trim()})   ratio ${ratio.toFixed(2)}`);
}
