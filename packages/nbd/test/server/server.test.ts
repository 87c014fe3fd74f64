import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UsageError } from '@lunfs/device';
import { NbdClient, NbdServer, canMultiConn, type NbdServerOptions } from '@lunfs/nbd';
import { MemoryBackend, MovingBackend, seeded, temporaryDirectory } from '../support/backends.js';

const MIB = 1 << 20;
let directory: string;
let socket: string;
let server: NbdServer;
let reports: string[];

async function start(options: NbdServerOptions = {}): Promise<void> {
  server = new NbdServer({ report: (line) => reports.push(line), ...options });
  await server.listenUnix(socket);
}

async function client(name = 'disk', options: { structured?: boolean } = {}): Promise<NbdClient> {
  const made = await NbdClient.connect({ path: socket });
  await made.go(name, options);
  return made;
}

beforeEach(() => {
  directory = temporaryDirectory();
  socket = path.join(directory, 'nbd.sock');
  reports = [];
});
afterEach(async () => {
  await server.close();
  fs.rmSync(directory, { recursive: true });
});

describe('haggling', () => {
  it('lists exports, tells their facts, finds the only one by no name', async () => {
    await start();
    server.addExport({ name: 'disk', description: 'a disk', backend: new MemoryBackend(MIB + 5), multiConn: true });
    const first = await NbdClient.connect({ path: socket });
    expect(await first.list()).toEqual([{ name: 'disk', description: 'a disk' }]);
    const info = await first.describe('');
    expect(info).toMatchObject({ size: MIB + 5, name: 'disk', description: 'a disk', blockSize: { minimum: 1, preferred: 4096, maximumPayload: 32 * MIB } });
    expect(canMultiConn(info)).toBe(true);
    expect(await first.listContexts('disk')).toEqual(['base:allocation']);
    expect(await first.listContexts('disk', ['base:'])).toEqual(['base:allocation']);
    expect(await first.listContexts('disk', ['qemu:dirty'])).toEqual([]);
    await expect(first.describe('other')).rejects.toMatchObject({ code: 'NBD_REFUSED' });
    await expect(first.listContexts('other')).rejects.toMatchObject({ code: 'NBD_REFUSED' });
    expect((await first.go('disk')).size).toBe(MIB + 5);
    await first.close();
    const second = await NbdClient.connect({ path: socket });
    await second.abort();
    expect(reports).toEqual([]);
  });

  it('refuses exports of no or too long a name, and two of one name', async () => {
    await start();
    server.addExport({ name: 'disk', backend: new MemoryBackend(MIB) });
    expect(() => server.addExport({ name: 'disk', backend: new MemoryBackend(MIB) })).toThrow(expect.objectContaining({ code: 'NBD_EXPORT_EXISTS' }));
    expect(() => server.addExport({ name: '', backend: new MemoryBackend(MIB) })).toThrow(expect.objectContaining({ code: 'NBD_EXPORT_NAME' }));
    expect(() => server.addExport({ name: 'x'.repeat(4097), backend: new MemoryBackend(MIB) })).toThrow(expect.objectContaining({ code: 'NBD_EXPORT_NAME' }));
    await expect(server.removeExport('none')).rejects.toMatchObject({ code: 'NBD_EXPORT_UNKNOWN' });
  });
});

describe.each([{ structured: true }, { structured: false }])('transmission on the main thread, $structured', ({ structured }) => {
  it('reads what was written, at any offset and length', async () => {
    await start();
    const backend = new MemoryBackend(70 * MIB);
    server.addExport({ name: 'disk', backend });
    const disk = await client('disk', { structured });
    const random = seeded(1);
    const model = Buffer.alloc(8 * MIB);
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 40 }, async (_, i) => {
        const region = Math.floor((8 * MIB) / 40);
        const offset = i * region + Math.floor(random() * 1000);
        const data = Buffer.alloc(1 + Math.floor(random() * (region - 1000)), Math.floor(random() * 256));
        data.copy(model, offset);
        await disk.write(offset, data, { fua: i % 3 === 0 });
      }));
    }
    expect((await disk.read(0, 8 * MIB)).equals(model)).toBe(true);
    expect((await disk.read(12345, 54321)).equals(model.subarray(12345, 12345 + 54321))).toBe(true);
    const large = Buffer.alloc(32 * MIB, 7);
    await Promise.all([disk.write(8 * MIB, large), disk.write(38 * MIB, large), disk.write(8 * MIB, large)]);
    expect((await disk.read(38 * MIB, 32 * MIB)).equals(large)).toBe(true);
    expect(await disk.read(0, 0)).toHaveLength(0);
    await disk.write(5, new Uint8Array(0));
    await disk.flush();
    expect(backend.flushes).toBe(1);
    await disk.trim(0, 4096);
    await disk.writeZeroes(4096, 4097);
    await disk.cache(0, MIB);
    expect((await disk.read(0, 8193)).every((byte) => byte === 0)).toBe(true);
    await disk.close();
  });

  it('maps errors to the wire set and goes on', async () => {
    await start();
    const backend = new MemoryBackend(MIB);
    server.addExport({ name: 'disk', backend });
    server.addExport({ name: 'fixed', backend: new MemoryBackend(MIB, true) });
    const disk = await client('disk', { structured });
    const refused = (errno: number): Record<string, number> => ({ nbdErrno: errno });
    await expect(disk.read(MIB - 1, 2)).rejects.toMatchObject(refused(22));
    await expect(disk.write(MIB - 1, new Uint8Array(2))).rejects.toMatchObject(refused(28));
    await expect(disk.read(Number.MAX_SAFE_INTEGER, 1)).rejects.toMatchObject(refused(22));
    await expect(disk.raw(0, 0, 0, 33 * MIB)).rejects.toMatchObject(refused(22));
    await expect(disk.raw(77, 0, 0, 0)).rejects.toMatchObject(refused(22));
    await expect(disk.raw(0, 1 << 9, 0, 512)).rejects.toMatchObject(refused(22));
    await expect(disk.raw(3, 0, 512, 0)).rejects.toMatchObject(refused(22));
    await expect(disk.writeZeroes(0, MIB, { fast: true })).rejects.toMatchObject(refused(95));
    backend.failure = new UsageError('FULL', 'EDQUOT', 'quota is used up');
    await expect(disk.write(0, new Uint8Array(512))).rejects.toMatchObject(refused(28));
    backend.failure = new Error('broken');
    await expect(disk.flush()).rejects.toMatchObject(refused(5));
    await disk.write(0, new Uint8Array(512));
    backend.failure = new Error('broken');
    await expect(disk.read(0, 512)).rejects.toMatchObject(refused(5));
    if (!structured) await expect(disk.blockStatus(0, MIB)).rejects.toMatchObject(refused(22));
    expect(await disk.read(0, 512)).toHaveLength(512);
    const fixed = await client('fixed', { structured });
    await expect(fixed.write(0, new Uint8Array(70_000))).rejects.toMatchObject(refused(1));
    await expect(fixed.trim(0, 512)).rejects.toMatchObject(refused(1));
    expect(await fixed.read(0, 512)).toHaveLength(512);
    await Promise.all([disk.close(), fixed.close()]);
  });
});

it('tells holes by BLOCK_STATUS and sends them as holes', async () => {
  await start();
  const backend = new MemoryBackend(MIB);
  server.addExport({ name: 'disk', backend, fastZero: true });
  const disk = await client();
  await disk.write(65536, Buffer.alloc(4096, 1));
  await disk.write(131072, Buffer.alloc(8192, 2));
  expect(await disk.blockStatus(0, MIB)).toEqual([
    { length: 65536, hole: true, zero: true }, { length: 4096, hole: false, zero: false }, { length: 61440, hole: true, zero: true },
    { length: 8192, hole: false, zero: false }, { length: MIB - 131072 - 8192, hole: true, zero: true },
  ]);
  expect(await disk.blockStatus(65536 + 100, 8192, { one: true })).toEqual([{ length: 3996, hole: false, zero: false }]);
  const expected = Buffer.alloc(MIB);
  expected.fill(1, 65536, 65536 + 4096).fill(2, 131072, 131072 + 8192);
  expect((await disk.read(0, MIB)).equals(expected)).toBe(true);
  expect((await disk.read(0, MIB, { df: true })).equals(expected)).toBe(true);
  await disk.writeZeroes(131072, 8192, { fast: true });
  await expect(disk.writeZeroes(131072, 8192, { fast: true, noHole: true })).rejects.toMatchObject({ nbdErrno: 95 });
  expect((await disk.blockStatus(131072, 8192))[0]).toEqual({ length: 8192, hole: true, zero: true });
  for (let at = 0; at < MIB; at += 8192) await disk.write(at, Buffer.alloc(4096, 3));
  expect((await disk.read(0, MIB)).every((byte, i) => byte === (i % 8192 < 4096 ? 3 : 0))).toBe(true);
  await disk.close();
});

describe('sockets', () => {
  it('makes the Unix socket for its owner alone, refuses a live one, replaces a dead one, leaves others alone', async () => {
    await start();
    expect(fs.statSync(socket).mode & 0o777).toBe(0o600);
    expect(fs.readdirSync(directory)).toEqual(['nbd.sock']);
    const second = new NbdServer();
    await expect(second.listenUnix(socket)).rejects.toMatchObject({ code: 'NBD_ADDRESS_IN_USE' });
    fs.writeFileSync(path.join(directory, 'file'), 'mine');
    await expect(second.listenUnix(path.join(directory, 'file'))).rejects.toMatchObject({ code: 'NBD_ADDRESS_IN_USE' });
    const dead = path.join(directory, 'dead.sock');
    await new Promise<void>((resolve) => {
      const other = net.createServer().listen(`${dead}~`, () => {
        fs.renameSync(`${dead}~`, dead);
        other.close(() => resolve());
      });
    });
    await second.listenUnix(dead, { mode: 0o660 });
    expect(fs.statSync(dead).mode & 0o777).toBe(0o660);
    await second.close();
    expect(fs.existsSync(dead)).toBe(false);
    await server.close();
    expect(fs.existsSync(socket)).toBe(false);
  });

  it('closes connections beyond the limit', async () => {
    await start({ maxConnections: 1 });
    server.addExport({ name: 'disk', backend: new MemoryBackend(MIB) });
    const first = await client();
    await expect(client()).rejects.toMatchObject({ code: 'NBD_CLOSED' });
    await first.close();
  });
});

describe.each([{ transport: 'unix' }, { transport: 'tcp' }])('data worker over $transport', ({ transport }) => {
  let backend: MovingBackend;
  let where: { path?: string; port?: number };

  beforeEach(async () => {
    await start();
    where = transport === 'unix' ? { path: socket } : { port: await server.listenTcp(0) };
  });
  afterEach(async () => {
    await server.close();
    await backend.close();
  });

  async function connect(structured = true): Promise<NbdClient> {
    const made = await NbdClient.connect(where);
    await made.go('disk', { structured });
    return made;
  }

  it.each([{ depth: 1 }, { depth: 16 }])('verifies at depth $depth while the mapping moves under it', async ({ depth }) => {
    const size = 8 * MIB;
    const random = seeded(depth);
    backend = new MovingBackend(path.join(directory, 'lun'), size, seeded(99));
    server.addExport({ name: 'disk', backend, multiConn: true });
    const clients = await Promise.all([connect(true), connect(false)]);
    const blocks = size / 4096;
    const model = new Uint32Array(blocks);
    const busy = new Set<number>();
    let version = 0;
    let done = false;
    const content = (block: number, value: number): Buffer => {
      const bytes = Buffer.alloc(4096);
      if (value !== 0) new Uint32Array(bytes.buffer, bytes.byteOffset, 1024).fill(value ^ (block << 16));
      return bytes;
    };
    const lane = async (disk: NbdClient): Promise<void> => {
      for (let i = 0; i < 400 / Math.sqrt(depth); i++) {
        const count = random() < 0.1 ? 24 : 1 + Math.floor(random() * 4);
        const first = Math.floor(random() * (blocks - count));
        const range = Array.from({ length: count }, (_, k) => first + k);
        if (range.some((block) => busy.has(block))) continue;
        for (const block of range) busy.add(block);
        if (random() < 0.5) {
          const value = ++version;
          await disk.write(first * 4096, Buffer.concat(range.map((block) => content(block, value))), { fua: random() < 0.05 });
          for (const block of range) model[block] = value;
        } else {
          const bytes = await disk.read(first * 4096, count * 4096);
          const expected = Buffer.concat(range.map((block) => content(block, model[block])));
          if (!bytes.equals(expected)) throw new Error(`blocks ${first}..${first + count - 1} differ`);
        }
        for (const block of range) busy.delete(block);
      }
    };
    const mover = (async () => {
      while (!done) {
        await backend.move(20);
        await new Promise((resolve) => { setTimeout(resolve, 5); });
      }
    })();
    await Promise.all(clients.flatMap((disk) => Array.from({ length: depth }, () => lane(disk))));
    done = true;
    await mover;
    await clients[0].flush();
    for (const [i, disk] of clients.entries()) {
      const all = await disk.read(0, size);
      expect(all.equals(Buffer.concat(Array.from(model, (value, block) => content(block, value)))), `client ${i}`).toBe(true);
    }
    expect(backend.moves).toBeGreaterThan(3);
    await Promise.all(clients.map((disk) => disk.close()));
    expect(reports).toEqual([]);
  });

  it('serves mapped blocks without the owner, in both modes', async () => {
    backend = new MovingBackend(path.join(directory, 'lun'), 8 * MIB, seeded(5), true);
    server.addExport({ name: 'disk', backend });
    const disk = await connect();
    for (let round = 0; round < 50; round++) await disk.write(0, Buffer.alloc(4096, round));
    const before = backend.ownerWrites;
    expect(before).toBeLessThan(5);
    for (let round = 0; round < 50; round++) {
      await disk.write(8192, Buffer.alloc(4096, round));
      expect((await disk.read(8192, 4096))[0]).toBe(round);
    }
    await Promise.all(Array.from({ length: 64 }, (_, i) => disk.write((i % 4) * 4096, Buffer.alloc(4096, 9))));
    expect(backend.ownerWrites).toBe(before);
    await disk.write(4096, Buffer.alloc(4096, 4), { fua: true });
    expect(backend.flushes).toBe(1);
    await disk.write(100, Buffer.alloc(10, 5));
    expect((await disk.read(0, 4096)).subarray(99, 111).toString('hex')).toBe(`09${'05'.repeat(10)}09`);
    await disk.close();
  });

  it('answers 32 MiB requests and more of them than there is memory for', async () => {
    backend = new MovingBackend(path.join(directory, 'lun'), 64 * MIB, seeded(6), true);
    server.addExport({ name: 'disk', backend });
    const disk = await connect();
    const pattern = Buffer.alloc(32 * MIB, 'pattern!');
    await disk.write(0, pattern);
    await disk.write(32 * MIB, pattern);
    const many = await Promise.all(Array.from({ length: 6 }, (_, i) => disk.read((i % 2) * 32 * MIB, 32 * MIB)));
    expect(many.every((bytes) => bytes.equals(pattern))).toBe(true);
    const small = await Promise.all(Array.from({ length: 100 }, (_, i) => disk.read(i * 65536, 524288)));
    expect(small.every((bytes) => bytes.equals(pattern.subarray(0, 524288)))).toBe(true);
    await disk.close();
  });

  it('removes an export under load: all requests are answered or their connection ends, and the gate is free', async () => {
    backend = new MovingBackend(path.join(directory, 'lun'), 8 * MIB, seeded(7), true);
    server.addExport({ name: 'disk', backend });
    const disk = await connect();
    await disk.write(0, Buffer.alloc(4096, 1));
    const load = Promise.allSettled(Array.from({ length: 200 }, (_, i) => disk.write((i % 100) * 4096, Buffer.alloc(4096, 2))));
    await server.removeExport('disk');
    const results = await load;
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'NBD_CLOSED' });
    await backend.gate.recall();
    expect(server.connections).toBe(0);
    await expect(connect()).rejects.toMatchObject({ code: 'NBD_REFUSED' });
  });

  it('removes an export whose client is quiet and does not close its side', async () => {
    backend = new MovingBackend(path.join(directory, 'lun'), 8 * MIB, seeded(8), true);
    server.addExport({ name: 'disk', backend });
    // A client that asks one thing at a time, and takes no notice of our end.
    const stubborn = net.connect({ ...where, allowHalfOpen: true } as net.NetConnectOpts);
    const answered = (bytes: number): Promise<void> => new Promise((resolve) => {
      let heard = 0;
      const listen = (data: Buffer): void => {
        heard += data.length;
        if (heard < bytes) return;
        stubborn.off('data', listen);
        resolve();
      };
      stubborn.on('data', listen);
    });
    await answered(18);
    const name = Buffer.from('....IHAVEOPT....\0\0\0\x04disk');
    name.writeUInt32BE(3, 0);
    name.writeUInt32BE(1, 12);
    stubborn.write(name);
    await answered(10);
    const read = Buffer.alloc(28);
    read.writeUInt32BE(0x25609513, 0);
    read.writeUInt32BE(4096, 24);
    for (let i = 0; i < 30; i++) {
      stubborn.write(read);
      await answered(16 + 4096);
    }
    // Time for the worker to block in its read again.
    await new Promise((resolve) => { setTimeout(resolve, 100); });
    const before = performance.now();
    await server.removeExport('disk');
    expect(server.connections).toBe(0);
    // It took the helper to end it: else this test would show nothing.
    expect(performance.now() - before).toBeGreaterThan(400);
    stubborn.destroy();
  });

  it('goes on after clients that vanish, and lets them come back', async () => {
    backend = new MovingBackend(path.join(directory, 'lun'), 8 * MIB, seeded(9), true);
    server.addExport({ name: 'disk', backend });
    const steady = await connect();
    for (let i = 0; i < 6; i++) {
      const disk = await connect();
      await disk.write(i * 4096, Buffer.alloc(4096, i + 1));
      const lost = Promise.allSettled(Array.from({ length: 20 }, () => disk.read(0, MIB)));
      disk.destroy();
      await lost;
      expect((await steady.read(i * 4096, 4096))[0]).toBe(i + 1);
    }
    await backend.gate.recall();
    await steady.close();
  });

  it('finds every acknowledged write after the server was stopped under load and started again', async () => {
    backend = new MovingBackend(path.join(directory, 'lun'), 8 * MIB, seeded(10));
    server.addExport({ name: 'disk', backend });
    const acknowledged = new Map<number, number>();
    for (let round = 1; round <= 3; round++) {
      const disk = await connect();
      const load = Promise.allSettled(Array.from({ length: 150 }, async (_, i) => {
        const block = round * 200 + i;
        await disk.write(block * 4096, Buffer.alloc(4096, round));
        acknowledged.set(block, round);
      }));
      await new Promise((resolve) => { setTimeout(resolve, 15 * round); });
      await server.close();
      await load;
      await start();
      server.addExport({ name: 'disk', backend });
      if (transport === 'tcp') where = { port: await server.listenTcp(0) };
    }
    const disk = await connect();
    for (const [block, value] of acknowledged) expect((await disk.read(block * 4096, 4096)).every((byte) => byte === value)).toBe(true);
    await disk.close();
  });
});

describe.each(['worker', 'main'])('the end of an export, %s', (kind) => {
  let backend: MemoryBackend | MovingBackend;

  beforeEach(async () => {
    await start({ drainMs: 1000 });
    backend = kind === 'main' ? new MemoryBackend(8 * MIB) : new MovingBackend(path.join(directory, 'lun'), 8 * MIB, seeded(20), true);
    server.addExport({ name: 'disk', backend });
  });
  afterEach(async () => {
    await server.close();
    await backend.close();
  });

  it('abandons what will never come back, without an answer', async () => {
    const disk = await client();
    await disk.write(100, Buffer.alloc(10));
    backend.stuck = true;
    const lost = [disk.write(100, Buffer.alloc(10)), disk.write(8000, Buffer.alloc(1000)), disk.write(0, Buffer.alloc(4095))].map((write) => expect(write).rejects.toMatchObject({ code: 'NBD_CLOSED' }));
    await disk.read(0, 4096);
    await server.removeExport('disk', { abandon: true });
    await Promise.all(lost);
    expect(server.connections).toBe(0);
  });

  it('does not wait for ever for a client that takes no replies', async () => {
    const deaf = net.connect({ path: socket });
    const name = Buffer.from('....IHAVEOPT....\0\0\0\x04disk');
    name.writeUInt32BE(3, 0);
    name.writeUInt32BE(1, 12);
    const read = Buffer.alloc(28);
    read.writeUInt32BE(0x25609513, 0);
    read.writeUInt32BE(MIB, 24);
    deaf.pause();
    deaf.write(Buffer.concat([name, ...Array.from({ length: 60 }, () => read)]));
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    expect(server.connections).toBe(1);
    await server.removeExport('disk');
    expect(server.connections).toBe(0);
    deaf.destroy();
  });
});
