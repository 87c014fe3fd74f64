/** Other people's NBD clients against our server: a thin file that moves under them, and a file in memory. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NbdServer } from '@lunfs/nbd';
import { MemoryBackend, MovingBackend, seeded, temporaryDirectory } from '../support/backends.js';

const MIB = 1 << 20;
const SIZE = 64 * MIB;
let directory: string;
let server: NbdServer;
let moving: MovingBackend;
let memory: MemoryBackend;
let reports: string[];

const execute = promisify(execFile);
async function run(program: string, ...args: string[]): Promise<string> {
  return (await execute(program, args, { maxBuffer: 16 * MIB })).stdout;
}
const uri = (name: string): string => `nbd+unix:///${name}?socket=${path.join(directory, 'nbd.sock')}`;

beforeAll(async () => {
  directory = temporaryDirectory();
  reports = [];
  server = new NbdServer({ report: (line) => reports.push(line) });
  moving = new MovingBackend(path.join(directory, 'lun'), SIZE, seeded(11));
  memory = new MemoryBackend(SIZE);
  server.addExport({ name: 'moving', description: 'a thin file', backend: moving, multiConn: true });
  server.addExport({ name: 'memory', backend: memory, multiConn: true });
  await server.listenUnix(path.join(directory, 'nbd.sock'));
});
afterAll(async () => {
  await server.close();
  await moving.close();
  fs.rmSync(directory, { recursive: true });
});

/** Runs `work` while clusters change places. */
async function whileMoving<T>(work: Promise<T>): Promise<T> {
  let done = false;
  const mover = (async () => {
    while (!done) {
      await moving.move(10);
      await new Promise((resolve) => { setTimeout(resolve, 10); });
    }
  })();
  try {
    return await work;
  } finally {
    done = true;
    await mover;
  }
}

it('nbdinfo sees the exports and what they can do', async () => {
  const { exports } = JSON.parse(await run('nbdinfo', '--json', uri('moving'))) as { exports: Record<string, unknown>[] };
  expect(exports[0]).toMatchObject({
    'export-name': 'moving', description: 'a thin file', 'export-size': SIZE, is_read_only: false, can_multi_conn: true, can_flush: true, can_fua: true,
    can_trim: true, can_zero: true, can_df: true, can_cache: true, can_fast_zero: true, block_size_minimum: 1, block_size_preferred: 4096, block_size_maximum: 32 * MIB,
    contexts: ['base:allocation'],
  });
  const listed = JSON.parse(await run('nbdinfo', '--json', '--list', `nbd+unix:///?socket=${path.join(directory, 'nbd.sock')}`)) as { exports: Record<string, unknown>[] };
  expect(listed.exports.map((entry) => entry['export-name'])).toEqual(['moving', 'memory']);
});

it.each(['moving', 'memory'])('qemu-img convert, compare and map, nbdcopy in and out: %s', { timeout: 120_000 }, async (name) => {
  const raw = path.join(directory, 'source.raw');
  const random = seeded(12);
  const fd = fs.openSync(raw, 'w');
  fs.ftruncateSync(fd, SIZE);
  for (let i = 0; i < 100; i++) {
    const bytes = Buffer.alloc(4096 * (1 + Math.floor(random() * 16)), Math.floor(1 + random() * 255));
    fs.writeSync(fd, bytes, 0, bytes.length, 4096 * Math.floor(random() * (SIZE / 4096 - 16)));
  }
  fs.closeSync(fd);
  const convert = run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', '-W', '-m', '8', raw, uri(name));
  await (name === 'moving' ? whileMoving(convert) : convert);
  expect(await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', raw, uri(name))).toContain('Images are identical');
  const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '-f', 'raw', uri(name))) as { start: number; length: number; zero: boolean; data: boolean }[];
  expect(map.reduce((sum, part) => sum + part.length, 0)).toBe(SIZE);
  if (name === 'memory') expect(map.some((part) => part.zero && !part.data)).toBe(true);
  const out = path.join(directory, `${name}.raw`);
  await run('nbdcopy', uri(name), out);
  expect(fs.readFileSync(out).equals(fs.readFileSync(raw))).toBe(true);
  await run('nbdcopy', '--flush', raw, uri(name));
  expect(await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', raw, uri(name))).toContain('Images are identical');
});

it.each(['moving', 'memory'])('qemu-io patterns of all sizes: %s', { timeout: 60_000 }, async (name) => {
  const commands = [
    'write -P 0x11 0 64k', 'write -f -P 0x22 4k 8k', 'write -P 0x33 777 1001', 'write -z 16k 16k', 'write -z -u 20k 4k', 'aio_write -P 0x44 1M 31M', 'aio_flush', 'discard 32k 16k', 'flush',
    'read -P 0x11 0 777', 'read -P 0x33 777 1001', 'read -P 0x22 4k 8k', 'read -P 0 16k 16k', 'read -P 0 32k 16k', 'read -P 0x11 48k 16k', 'read -P 0x44 1M 31M',
  ];
  const output = await run('qemu-io', '-f', 'raw', '-t', 'none', ...commands.flatMap((command) => ['-c', command]), uri(name));
  expect(output).not.toMatch(/failed|error/i);
  await expect(execute('qemu-io', ['-f', 'raw', '-c', `read ${SIZE} 4k`, uri(name)])).rejects.toThrow();
});

it.each(['moving', 'memory'])('fio verifies through its nbd engine: %s', { timeout: 120_000 }, async (name) => {
  const fio = run('fio', '--name=verify', '--ioengine=nbd', `--uri=${uri(name)}`, '--rw=randwrite', '--bsrange=4k-128k', '--iodepth=16', '--size=32m', '--io_size=96m', '--verify=crc32c', '--verify_fatal=1', '--do_verify=1', '--verify_state_save=0', '--randseed=7');
  const output = await (name === 'moving' ? whileMoving(fio) : fio);
  expect(output).toMatch(/err= 0/);
});

it('said nothing of violations all the while', () => {
  expect(reports).toEqual([]);
});
