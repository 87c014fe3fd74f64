// Our FUSE session over one thick file (identity extent, O_DIRECT) and a name space in memory, against libfuse's passthrough_ll on the same
// file and fuse2fs on ext4. What is measured is the session, not a file system. fio for data, a small program for metadata; rounds alternate,
// what counts is the ratio within a round. Needs root, fio; passthrough_ll is built from libfuse3-dev's examples where gcc is there.
// Takes about 3 minutes. usage: node bench/fuse-raw.mjs [--rounds N] [--seconds N] [--size MIB] [--dir DIRECTORY] [--workers 1,2,4] [--cell NAME] [--json]
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Gate, UsageError } from '@lunfs/device';
import { mountFuse } from '@lunfs/fuse';
import { have } from './lib/needs.mjs';
import { processorSeconds } from './lib/nbd.mjs';
import { benchVolume } from './lib/volume.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '1' }, size: { type: 'string', default: '256' },
    dir: { type: 'string', default: os.tmpdir() }, workers: { type: 'string', default: '8' }, cell: { type: 'string' }, json: { type: 'boolean', default: false },
    serve: { type: 'string' }, on: { type: 'string' }, metadata: { type: 'string' }, server: { type: 'string' }, ours: { type: 'string', default: 'session' }, writeback: { type: 'boolean', default: false },
  },
});
const MIB = 1 << 20;
const size = Number(values.size) * MIB;
const FILES = 3000;

const cells = [
  { name: '4k randread qd1', fio: ['--rw=randread', '--bs=4k', '--iodepth=1'], against: 'passthrough_ll', goal: 0.8 },
  { name: '4k randread qd16', fio: ['--rw=randread', '--bs=4k', '--iodepth=16'], against: 'passthrough_ll', goal: 0.6 },
  { name: '4k randwrite qd1', fio: ['--rw=randwrite', '--bs=4k', '--iodepth=1'] },
  { name: '4k randwrite qd16', fio: ['--rw=randwrite', '--bs=4k', '--iodepth=16'] },
  { name: '1M read qd4', fio: ['--rw=read', '--bs=1M', '--iodepth=4'], against: 'fuse2fs', goal: 1.5 },
  { name: '1M write qd4', fio: ['--rw=write', '--bs=1M', '--iodepth=4'], against: 'fuse2fs', goal: 1.5 },
  ...['create', 'stat', 'readdir', 'rename', 'unlink', 'small writes'].map((phase) => ({ name: phase, phase, against: 'fuse2fs', goal: 1.5 })),
].filter((cell) => values.cell === undefined || cell.name.includes(values.cell));

if (values.serve !== undefined) await (values.ours === 'volume' ? serveVolume : serve)(values.serve, values.on);
else if (values.metadata !== undefined) metadata(values.metadata, Number(values.server));
else await compare();

/** Our side, in a process of its own as the others are. */
async function serve(directory, where) {
  const fd = fs.openSync(path.join(directory, 'disk'), fs.constants.O_RDWR | fs.constants.O_DIRECT);
  const gate = new Gate();
  const refuse = () => { throw new UsageError('BENCH', 'ENOSYS', 'the benchmark does not need this'); };
  const backend = {
    size, readOnly: false, direct: { fd, alignment: 4096, gate },
    map: async () => ({ epoch: gate.epoch, runs: [{ offset: 0, length: size, device: 0 }] }),
    read: refuse, write: refuse, flush: refuse, trim: refuse, writeZeroes: refuse, status: refuse, close: async () => {},
  };
  const names = new Map();
  const nodes = new Map();
  const add = (name, mode, bytes) => {
    const id = nodes.size === 0 ? 1 : nextId++;
    const now = Math.floor(Date.now() / 1000);
    const node = { id, attr: { ino: id, size: bytes, blocks: bytes / 512, atime: now, atimensec: 0, mtime: now, mtimensec: 0, ctime: now, ctimensec: 0, mode, nlink: 1, uid: 0, gid: 0, rdev: 0, blksize: 4096 } };
    nodes.set(id, node);
    if (name !== undefined) names.set(name, node);
    return node;
  };
  let nextId = 2;
  add(undefined, 0o040755, 4096);
  add('disk', 0o100644, size);
  const entry = (node) => ({ nodeid: node.id, generation: 0, entryTtl: 1, ttl: 1, attr: node.attr });
  const openFile = (node) => (node.id === 2 ? { node, backend, keepCache: true, parallelDirectWrites: true } : { node });
  const handler = {
    lookup: (_caller, _parent, name) => { const node = names.get(name.latin1Slice()); return node === undefined ? { nodeid: 0, entryTtl: 0 } : entry(node); },
    forget() {},
    getattr: (_caller, id) => ({ ttl: 1, attr: nodes.get(id).attr }),
    setattr: (_caller, id) => ({ ttl: 1, attr: nodes.get(id).attr }),
    create: (_caller, _parent, name, mode) => { const node = add(name.latin1Slice(), mode, 0); return { ...entry(node), file: openFile(node) }; },
    unlink(_caller, _parent, name) { nodes.delete(names.get(name.latin1Slice()).id); names.delete(name.latin1Slice()); },
    open: (_caller, id) => openFile(nodes.get(id)),
    read: (_caller, _file, offset, into) => fs.readSync(fd, into, 0, into.length, offset),
    write: (_caller, _file, offset, from) => fs.writeSync(fd, from, 0, from.length, offset),
    wrote() {}, release() {}, fsync() {}, releasedir() {}, fsyncdir() {},
    opendir: () => ({ list: [...names] }),
    readdir(_caller, directory, offset, plus, take) {
      for (let i = offset; i < directory.list.length; i++) {
        const [name, node] = directory.list[i];
        if (!take({ name: Buffer.from(name, 'latin1'), ino: node.id, type: node.attr.mode >> 12, next: i + 1, entry: plus ? entry(node) : undefined })) return;
      }
    },
    statfs: () => ({ blocks: size / 4096, bfree: 0, bavail: 0, files: 1e6, ffree: 1e6, bsize: 4096, frsize: 4096, namelen: 255 }),
    rename(_caller, _parent, name, _newParent, newName) {
      const node = names.get(name.latin1Slice());
      names.delete(name.latin1Slice());
      names.set(newName.latin1Slice(), node);
    },
    mkdir: refuse, mknod: refuse, rmdir: refuse, link: refuse, symlink: refuse, readlink: refuse,
  };
  const mount = await mountFuse(handler, { directory: where, source: 'bench', workers: Number(values.workers), onError: (error) => console.error(error) });
  console.log('ready');
  process.stdin.resume().on('end', () => void mount.close());
  await mount.closed;
}

/** A lunfs volume instead of the session alone: a thick disk and an empty directory (bench/mount.mjs). */
async function serveVolume(directory, where) {
  const volume = await benchVolume(directory, { bytes: 2 * size + 512 * MIB, clusterSize: 4096, disks: [{ path: '/disk', size, allocation: 'thick-zeroed' }], mount: where, writeback: values.writeback });
  fs.writeFileSync(path.join(directory, 'pid'), String(volume.pid));
  process.stdin.resume().on('end', () => void volume.control.stop());
  await volume.exited;
}

/** Creates, stats, lists, renames and unlinks FILES files, then appends 4 KiB at a time to one and syncs it; prints operations per second of each phase, and the server's processor time. */
function metadata(where, server) {
  const directory = fs.existsSync(path.join(where, 'lost+found')) ? path.join(where, 'm') : where;
  if (directory !== where) fs.mkdirSync(directory, { recursive: true });
  const file = (i) => path.join(directory, `file-${i}`);
  const timed = (count, work) => {
    const started = performance.now();
    const used = processorSeconds(server);
    work();
    return { rate: Math.round((count * 1000) / (performance.now() - started)), cpu: ((processorSeconds(server) - used) * 1e6) / count };
  };
  const all = (work) => timed(FILES, () => { for (let i = 0; i < FILES; i++) work(file(i)); });
  const create = all((name) => fs.closeSync(fs.openSync(name, 'wx')));
  spawnSync('sleep', ['1.1']); // let the kernel's names and attributes expire: every stat asks the file system
  const stat = all((name) => fs.statSync(name));
  const readdir = timed(FILES * 5, () => { for (let i = 0; i < 5; i++) fs.readdirSync(directory); });
  const rename = all((name) => fs.renameSync(name, `${name}-renamed`));
  const unlink = all((name) => fs.unlinkSync(`${name}-renamed`));
  const small = Buffer.alloc(4096, 0x6b);
  const written = path.join(directory, 'written');
  const writes = timed(FILES, () => {
    const fd = fs.openSync(written, 'w');
    for (let i = 0; i < FILES; i++) fs.writeSync(fd, small);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
  });
  fs.unlinkSync(written);
  console.log(JSON.stringify({ create, stat, readdir, rename, unlink, 'small writes': writes }));
}

/** The program, or undefined with the reason told. */
function buildPassthrough(directory) {
  const source = '/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c';
  if (!have('passthrough_ll', 'gcc') || (!fs.existsSync(source) && !have('passthrough_ll', 'passthrough_ll.c'))) return undefined;
  fs.writeFileSync(path.join(directory, 'config.h'), '');
  const program = path.join(directory, 'passthrough_ll');
  const { status } = spawnSync('gcc', ['-O2', '-D_FILE_OFFSET_BITS=64', '-D_GNU_SOURCE', `-I${directory}`, '-I/usr/include/fuse3', source, '-o', program, '-lfuse3', '-lpthread'], { stdio: 'ignore' });
  if (status === 0) return program;
  console.log('passthrough_ll: left out: it does not compile against the libfuse3 of this machine');
  return undefined;
}

async function until(what, condition) {
  for (let i = 0; i < 200; i++) {
    if (condition()) return;
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`not within 10 s: ${what}`);
}

async function compare() {
  if (values.ours === 'volume' && !have('bench/mount', 'mkfs.ocfs2')) return;
  const fio = have('data', 'fio');
  const directory = fs.mkdtempSync(path.join(values.dir, 'lunfs-fuse-bench-'));
  const backing = path.join(directory, 'backing');
  fs.mkdirSync(backing);
  const fill = Buffer.alloc(8 * MIB, 0x5a);
  const disk = fs.openSync(path.join(backing, 'disk'), 'w');
  for (let at = 0; at < size; at += fill.length) fs.writeSync(disk, fill, 0, Math.min(fill.length, size - at), at);
  fs.fsyncSync(disk);
  fs.closeSync(disk);
  const servers = [];
  const start = async (name, command, args) => {
    const where = path.join(directory, `mnt-${name.replace(' ', '-')}`);
    fs.mkdirSync(where);
    const child = spawn(command, args.map((arg) => (arg === 'MNT' ? where : arg)), { stdio: ['pipe', 'ignore', 'inherit'] });
    child.on('error', (error) => console.error(`${name}: ${error.message}`));
    servers.push({ name, where, child, pid: child.pid });
    await until(`${name} is mounted`, () => fs.readFileSync('/proc/self/mounts', 'utf8').includes(` ${where} fuse`));
  };
  try {
    const counts = values.workers.split(',');
    for (const workers of counts) {
      await start(counts.length > 1 ? `ours ${workers}` : 'ours', process.execPath, [process.argv[1], '--serve', backing, '--on', 'MNT', '--size', values.size, '--workers', workers, '--ours', values.ours, ...(values.writeback ? ['--writeback'] : [])]);
    }
    // Real bytes everywhere: a file of zeroes may be read without touching the device.
    const filled = (where) => spawnSync('dd', ['if=' + path.join(backing, 'disk'), 'of=' + path.join(where, 'disk'), 'bs=1M', 'conv=notrunc,fsync', 'status=none']);
    if (values.ours === 'volume') for (const { where } of servers) filled(where);
    const passthrough = buildPassthrough(directory);
    if (passthrough !== undefined) await start('passthrough_ll', passthrough, ['-f', '-o', `source=${backing}`, 'MNT']);
    if (have('fuse2fs', 'fuse2fs', 'mke2fs')) {
      const image = path.join(directory, 'ext4.img');
      fs.closeSync(fs.openSync(image, 'w'));
      fs.truncateSync(image, size * 2 + 256 * MIB);
      if (spawnSync('mke2fs', ['-q', '-t', 'ext4', '-F', image]).status !== 0) throw new Error('mke2fs failed');
      await start('fuse2fs', 'fuse2fs', ['-f', '-o', 'fakeroot', image, 'MNT']);
      filled(servers.at(-1).where);
    }
    // Our volume is served by a process that it started.
    for (const server of servers) if (server.name.startsWith('ours') && values.ours === 'volume') server.pid = Number(fs.readFileSync(path.join(backing, 'pid'), 'utf8'));
    const results = new Map(cells.map((cell) => [cell.name, new Map(servers.map(({ name }) => [name, []]))]));
    for (let round = 0; round < Number(values.rounds); round++) {
      const order = round % 2 === 0 ? servers : [...servers].reverse();
      for (const cell of cells.filter((one) => fio && one.fio)) for (const { name, where, pid } of order) results.get(cell.name).get(name).push(data(cell, where, pid));
      if (cells.some((cell) => cell.phase)) {
        for (const { name, where, pid } of order.filter((one) => one.name !== 'passthrough_ll')) {
          const { stdout } = spawnSync(process.execPath, [process.argv[1], '--metadata', where, '--server', String(pid)]);
          const rates = JSON.parse(stdout.toString() || '{}');
          for (const cell of cells.filter((one) => one.phase)) results.get(cell.name).get(name).push(rates[cell.phase]);
        }
      }
      console.error(`round ${round + 1} of ${values.rounds} done`);
    }
    print(results);
  } finally {
    for (const { where, child } of servers.reverse()) {
      spawnSync('umount', ['-i', '-l', where]);
      await Promise.race([new Promise((resolve) => { child.once('exit', resolve); if (child.exitCode !== null) resolve(); }), new Promise((resolve) => { setTimeout(resolve, 5000).unref(); })]);
      child.kill('SIGKILL');
    }
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** Operations per second and processor time of the server for each, undefined when the server refuses (passthrough_ll's buffers are not aligned for O_DIRECT writes). */
function data(cell, where, server) {
  const used = processorSeconds(server);
  const { stdout } = spawnSync('fio', ['--name=bench', `--filename=${path.join(where, 'disk')}`, `--size=${size}`, '--direct=1', '--ioengine=libaio', ...cell.fio,
    '--time_based', `--runtime=${values.seconds}`, '--allow_file_create=0', '--output-format=json', '--randrepeat=0'], { maxBuffer: 1 << 26, cwd: '/' });
  const text = stdout.toString();
  try {
    const [job] = JSON.parse(text.slice(text.indexOf('{'))).jobs;
    const count = job.read.total_ios + job.write.total_ios;
    if (job.error !== 0 || count === 0) return undefined;
    return { rate: Math.round(job.read.iops + job.write.iops), cpu: ((processorSeconds(server) - used) * 1e6) / count };
  } catch {
    return undefined;
  }
}

function print(results) {
  const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
  const rows = [];
  for (const cell of cells) {
    const rates = results.get(cell.name);
    for (const [name, ours] of rates) {
      if (!name.startsWith('ours')) continue;
      for (const [other, theirs] of rates) {
        if (other.startsWith('ours')) continue;
        const ratios = ours.map((one, i) => one?.rate / theirs[i]?.rate).filter(Number.isFinite).toSorted((a, b) => a - b);
        if (ratios.length === 0) continue;
        const goal = other === cell.against ? cell.goal : undefined;
        const middle = (list, what) => median(list.filter((one) => one !== undefined).map((one) => one[what]));
        rows.push({
          cell: cell.name, server: name, perSecond: middle(ours, 'rate'), against: other, theirs: middle(theirs, 'rate'), min: ratios[0], median: median(ratios), max: ratios.at(-1), goal,
          cpu: { ours: middle(ours, 'cpu'), theirs: middle(theirs, 'cpu') },
        });
      }
    }
  }
  if (values.json) {
    console.log(JSON.stringify(rows, null, 2));
    return;
  }
  console.log('cell               server   ops/s against         ops/s   min/median/max     CPU us (ours, theirs)  goal');
  for (const row of rows) {
    const ratio = [row.min, row.median, row.max].map((value) => value.toFixed(2)).join('/');
    const verdict = row.goal === undefined ? '' : `${row.goal} ${row.median >= row.goal ? 'met' : 'BELOW'}`;
    console.log(`${row.cell.padEnd(18)} ${row.server.padEnd(7)} ${String(row.perSecond).padStart(6)} ${row.against.padEnd(14)} ${String(row.theirs).padStart(6)}   ${ratio.padEnd(18)} ${row.cpu.ours.toFixed(1).padStart(7)} ${row.cpu.theirs.toFixed(1).padStart(8)}      ${verdict}`);
  }
}
