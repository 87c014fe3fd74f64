import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NbdClient, NbdServer } from '@lunfs/nbd';
import { IHAVEOPT, MAX_PAYLOAD, NBD_REQUEST_MAGIC, Option } from '../../src/protocol.js';
import { MemoryBackend, MovingBackend, seeded, temporaryDirectory } from '../support/backends.js';

let directory: string;
let server: NbdServer;
let moving: MovingBackend;
let where: string;
let steady: NbdClient[];

beforeAll(async () => {
  directory = temporaryDirectory();
  where = path.join(directory, 'nbd.sock');
  server = new NbdServer();
  moving = new MovingBackend(path.join(directory, 'lun'), 1 << 20, seeded(3), true);
  server.addExport({ name: 'worker', backend: moving });
  server.addExport({ name: 'main', backend: new MemoryBackend(1 << 20) });
  await server.listenUnix(where);
  steady = await Promise.all(['worker', 'main'].map(async (name) => {
    const client = await NbdClient.connect({ path: where });
    await client.go(name);
    await client.write(0, Buffer.alloc(4096, 0x5a));
    return client;
  }));
});
afterAll(async () => {
  await Promise.all(steady.map((client) => client.close()));
  await server.close();
  await moving.close();
  fs.rmSync(directory, { recursive: true });
});

function option(code: number, data: Buffer): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(IHAVEOPT, 0);
  header.writeUInt32BE(code, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

function request(command: number, flags: number, offset: bigint, length: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(77n, 8);
  bytes.writeBigUInt64BE(offset, 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** Says all of `bytes`, ends its side, and waits until the server has closed the connection. */
function say(bytes: Buffer): Promise<number> {
  return new Promise((resolve) => {
    let heard = 0;
    const socket = net.connect({ path: where }, () => socket.end(bytes));
    socket.on('data', (data) => { heard += data.length; });
    socket.on('error', () => {});
    socket.on('close', () => resolve(heard));
  });
}

const flags = Buffer.from([0, 0, 0, 3]);
const enter = (name: string): Buffer => option(Option.EXPORT_NAME, Buffer.from(name));
const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
const options = fc.array(fc.tuple(fc.integer({ min: 0, max: 11 }), noise).map(([code, data]) => option(code, data)), { maxLength: 4 }).map((all) => Buffer.concat(all));
// Reads, flushes and nonsense, with offsets and lengths of all sizes; never a write that would change the first block.
const requests = fc.array(
  fc.tuple(fc.constantFrom(0, 3, 5, 7, 8, 9, 65535), fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 65535 })), fc.oneof(fc.bigInt({ min: 0n, max: 1n << 21n }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })), fc.oneof(fc.integer({ min: 0, max: 1 << 20 }), fc.integer({ min: 0, max: 0xffff_ffff })))
    .map(([command, flag, offset, length]) => request(command, flag, offset, length)),
  { maxLength: 6 },
).map((all) => Buffer.concat(all));

it('closes the connection of whoever talks nonsense, in every phase, and harms nobody', { timeout: 60_000 }, async () => {
  const said = fc.oneof(
    noise,
    noise.map((bytes) => Buffer.concat([flags, bytes])),
    fc.tuple(options, noise).map(([haggling, bytes]) => Buffer.concat([flags, haggling, bytes])),
    fc.tuple(fc.constantFrom('main', 'worker'), requests, noise).map(([name, traffic, bytes]) => Buffer.concat([flags, enter(name), traffic, bytes])),
  );
  await fc.assert(fc.asyncProperty(said, async (bytes) => {
    expect(await say(bytes)).toBeGreaterThanOrEqual(18);
    for (const client of steady) expect((await client.read(0, 4096)).every((byte) => byte === 0x5a)).toBe(true);
  }), { numRuns: 60 });
});

it.each(['main', 'worker'])('closes at a wrong magic number, and at a write longer than may be: %s', async (name) => {
  const entered = 18 + 10;
  expect(await say(Buffer.concat([flags, enter(name), Buffer.alloc(28, 1)]))).toBe(entered);
  expect(await say(Buffer.concat([flags, enter(name), request(1, 0, 0n, MAX_PAYLOAD + 1), Buffer.alloc(100_000)]))).toBe(entered);
  expect(await say(Buffer.concat([flags, enter(name), request(0, 0, 0n, 4096), request(2, 0, 0n, 0), Buffer.alloc(28, 1)]))).toBe(entered + 16 + 4096);
  await moving.gate.recall();
});
