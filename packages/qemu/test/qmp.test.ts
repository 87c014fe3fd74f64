/** The QMP client against a peer that says what it wants: in any order, in any pieces, too much, nothing, and nonsense. What QEMU itself says is in oracle/. */
import * as fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { LunfsError } from '@lunfs/device';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { seed } from '../../../test/support/temp.js';
import { QmpClient } from '../src/qmp/client.js';
import { lineReader, parseMessage } from '../src/qmp/message.js';

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-qmp-'));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));
const SEED = seed('qmp');
const GREETING = '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}\r\n';
const TIME = '"timestamp": {"seconds": 1700000000, "microseconds": 250000}';

interface Sent {
  readonly execute: string;
  readonly id: number;
  readonly arguments?: unknown;
}

let sockets = 0;

/** A peer that greets and negotiates; all further commands go to `answer`. */
async function withPeer<T>(answer: (command: Sent, socket: net.Socket) => void, work: (client: QmpClient) => Promise<T>, greeting = GREETING): Promise<T> {
  const file = path.join(directory, `socket-${sockets++}`);
  const open = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.write(greeting);
    const split = lineReader((line) => {
      const command = JSON.parse(line) as Sent;
      if (command.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${command.id}}\r\n`);
      else answer(command, socket);
    });
    socket.on('data', split);
  });
  await new Promise<void>((resolve) => void server.listen(file, resolve));
  try {
    const client = await QmpClient.connect(file, 'a peer', { greetingMs: 20_000 });
    try {
      return await work(client);
    } finally {
      client.close();
    }
  } finally {
    for (const socket of open) socket.destroy();
    server.close();
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(() => undefined, (reason: unknown) => reason);
  if (!(error instanceof LunfsError)) throw new Error(`not a LunfsError: ${String(error)}`);
  return error.code;
}

describe('a QMP client', () => {
  it('matches answers to commands in whatever order they come', async () => {
    const waiting: Sent[] = [];
    await withPeer((command, socket) => {
      waiting.push(command);
      if (waiting.length < 3) return;
      for (const { id, execute } of waiting.reverse()) socket.write(`{"id": ${id}, "return": "${execute}"}\n`);
    }, async (client) => {
      expect(client.version).toEqual({ major: 7, minor: 2, micro: 22 });
      expect(await Promise.all([client.execute('query-status'), client.execute('query-block'), client.execute('query-migrate')])).toEqual(['query-status', 'query-block', 'query-migrate']);
    });
  });

  it("carries QEMU's class and text in its errors, and goes on after them", async () => {
    await withPeer(({ id }, socket) => socket.write(id === 2 ? `{"id": ${id}, "error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}}\n` : `{"id": ${id}, "return": {}}\n`), async (client) => {
      await expect(client.execute('device_del', { id: 'x' })).rejects.toMatchObject({
        code: 'QMP_ERROR', errno: 'ENODEV', fields: { class: 'DeviceNotFound', description: "Device 'x' not found", command: 'device_del' }, message: expect.stringContaining("Device 'x' not found") as string,
      });
      expect(await client.execute('cont')).toEqual({});
    });
  });

  it('gives up a command in time, and takes its late answer for no violation', async () => {
    const held: (() => void)[] = [];
    await withPeer(({ id, execute }, socket) => {
      if (execute === 'stop') held.push(() => socket.write(`{"id": ${id}, "return": {}}\n`));
      else {
        held.pop()?.();
        socket.write(`{"id": ${id}, "return": "later"}\n`);
      }
    }, async (client) => {
      expect(await codeOf(client.execute('stop', {}, { timeoutMs: 50 }))).toBe('QMP_TIMEOUT');
      expect(await client.execute('query-status')).toBe('later');
    });
  });

  it('hands on events, those between a command and its answer too, and lets one be awaited', async () => {
    await withPeer(({ id }, socket) => socket.write(`{"event": "STOP", ${TIME}}\n{"event": "DEVICE_DELETED", "data": {"device": "d"}, ${TIME}}\n{"id": ${id}, "return": {}}\n`), async (client) => {
      const all: string[] = [];
      const off = client.onEvent(({ name }) => void all.push(name));
      const gone = client.awaitEvent('the end', 20_000, ({ data, at }) => (data.device === 'd' ? at : undefined));
      await client.execute('device_del', { id: 'd' });
      expect(await gone.arrived).toBe(1_700_000_000_250);
      expect(all).toEqual(['STOP', 'DEVICE_DELETED']);
      off();
      await client.execute('stop');
      expect(all).toHaveLength(2);
      expect(await codeOf(client.awaitEvent('what never comes', 20, () => undefined).arrived)).toBe('QMP_TIMEOUT');
    });
  });

  it('fails all that is under way when the peer hangs up', async () => {
    await withPeer((_, socket) => socket.destroy(), async (client) => {
      const event = client.awaitEvent('an event', 20_000, () => undefined);
      expect(await Promise.all([codeOf(client.execute('stop')), codeOf(client.execute('cont')), codeOf(event.arrived)])).toEqual(['QMP_GONE', 'QMP_GONE', 'QMP_GONE']);
      expect((await client.ended)?.code).toBe('QMP_GONE');
      expect(await codeOf(client.execute('cont'))).toBe('QMP_GONE');
    });
  });

  it('tells a monitor that is taken from one that is not there', async () => {
    const file = path.join(directory, 'silent');
    const server = net.createServer();
    await new Promise<void>((resolve) => void server.listen(file, resolve));
    expect(await codeOf(QmpClient.connect(file, 'a peer', { greetingMs: 50 }))).toBe('QMP_BUSY');
    server.close();
    expect(await codeOf(QmpClient.connect(path.join(directory, 'nowhere'), 'a peer'))).toBe('QMP_GONE');
  });

  it.each([
    ['no JSON', 'hello\n'], ['a list', '[1]\n'], ['another greeting', GREETING], ['an answer to nobody', '{"id": 999, "return": {}}\n'], ['an answer without id', '{"return": {}}\n'],
    ['an error without text', '{"id": 2, "error": {"class": "GenericError"}}\n'], ['an event without time', '{"event": "STOP"}\n'], ['nothing known', '{"id": 2}\n'],
  ])('ends the connection at %s', async (_, line) => {
    await withPeer((_command, socket) => socket.write(line), async (client) => {
      expect(await codeOf(client.execute('stop'))).toBe('QMP_PROTOCOL');
      expect((await client.ended)?.code).toBe('QMP_PROTOCOL');
    });
  });

  it('refuses a peer that does not greet as QMP does', async () => {
    for (const greeting of ['{"QMP": {}}\n', '{"return": {}, "id": 1}\n', 'SSH-2.0-OpenSSH\n']) expect(await codeOf(withPeer(() => undefined, async () => undefined, greeting))).toBe('QMP_PROTOCOL');
  });
});

describe('lines and messages', () => {
  it('come whole whatever the pieces they arrive in', () => {
    fc.assert(fc.property(fc.array(fc.json(), { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 }), fc.boolean(), (documents, sizes, cr) => {
      const lines = documents.map((one) => JSON.stringify(JSON.parse(one)));
      const bytes = Buffer.from(lines.map((line) => `${line}${cr ? '\r' : ''}\n`).join(''));
      const got: string[] = [];
      const read = lineReader((line) => got.push(line));
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length];
        read(bytes.subarray(at, at + size));
        at += size;
      }
      expect(got).toEqual(lines.map((line) => line.trimEnd()).filter((line) => line !== ''));
    }), { seed: SEED, numRuns: 300 });
  });

  it('are bounded, however the bytes arrive', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 64 }), (length, piece) => {
      const read = lineReader(() => undefined, 100);
      const bytes = Buffer.concat([Buffer.alloc(length, 'x'), Buffer.from('\n')]);
      const feed = (): void => {
        for (let at = 0; at < bytes.length; at += piece) read(bytes.subarray(at, at + piece));
      };
      if (length > 100) expect(feed).toThrow(/line of more than 100 bytes/);
      else feed();
    }), { seed: SEED, numRuns: 300 });
  });

  it('are understood or refused as QMP_PROTOCOL, never anything else', () => {
    const value = fc.jsonValue();
    const time = fc.record({ seconds: fc.integer(), microseconds: fc.integer() });
    const good = fc.oneof(
      fc.record({ id: fc.nat(), return: value }), fc.record({ id: fc.nat(), error: fc.record({ class: fc.string(), desc: fc.string() }) }), fc.record({ event: fc.string(), data: fc.object(), timestamp: time }),
    );
    const message = fc.record({
      QMP: value, event: fc.oneof(value, fc.constant('STOP')), return: value, id: fc.oneof(value, fc.integer()), data: value, error: fc.oneof(value, fc.record({ class: fc.oneof(value, fc.string()), desc: fc.oneof(value, fc.string()) })),
      timestamp: fc.oneof(value, fc.record({ seconds: fc.oneof(value, fc.integer()), microseconds: fc.oneof(value, fc.integer()) })),
    }, { requiredKeys: [] });
    let understood = 0;
    fc.assert(fc.property(fc.oneof(good.map((one) => JSON.stringify(one)), message.map((one) => JSON.stringify(one)), fc.string(), fc.json()), (line) => {
      try {
        const parsed = parseMessage(line);
        understood += 1;
        if (parsed.kind === 'event') expect(Number.isFinite(parsed.event.at)).toBe(true);
        else if (parsed.kind !== 'greeting') expect(Number.isSafeInteger(parsed.id)).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(LunfsError);
        expect((error as LunfsError).code).toBe('QMP_PROTOCOL');
      }
    }), { seed: SEED, numRuns: 1000 });
    expect(understood).toBeGreaterThan(50);
  });
});
