/** The dispatcher fed with messages instead of /dev/fuse: one reply per request, whatever the kernel sends; nothing is lost or kept. */
import { ERRNO, MemoryDevice } from '@lunfs/device';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_WRITE, OPCODE } from '../../src/protocol/constants.js';
import type { OpName } from '../../src/protocol/constants.js';
import { FramingError } from '../../src/protocol/requests.js';
import * as S from '../../src/protocol/structs.js';
import { Dispatcher } from '../../src/session/dispatcher.js';
import type { Message, Sent } from '../../src/session/dispatcher.js';
import { MemoryFs } from '../support/memory-fs.js';
import type { MemoryFsOptions } from '../support/memory-fs.js';
import { message, transfer, viewOf } from '../support/messages.js';

class Kernel {
  readonly handler: MemoryFs;
  readonly dispatcher: Dispatcher<Awaited<ReturnType<MemoryFs['open']>>, ReturnType<MemoryFs['opendir']>>;
  readonly replies: Buffer[] = [];
  readonly errors: unknown[] = [];
  answer: Sent = 'sent';
  held = 0;
  #unique = 0;

  constructor(options: MemoryFsOptions = {}) {
    this.handler = new MemoryFs(new MemoryDevice({ size: 1 << 24, logicalBlockSize: 4096 }), options);
    this.dispatcher = new Dispatcher(this.handler, {
      send: (reply) => {
        this.replies.push(Buffer.from(reply));
        return this.answer;
      },
    }, { tell: () => {}, marks: () => 0 }, { onError: (error) => this.errors.push(error) });
  }

  feed(bytes: Uint8Array): void {
    this.held++;
    const area = Buffer.alloc(16 + MAX_WRITE);
    const one: Message = { bytes, data: area.subarray(16), reply: area, free: () => { this.held--; } };
    this.dispatcher.serve(one);
  }

  /** Send a request; its reply as errno and payload. */
  async ask(op: OpName, body: Uint8Array, nodeid = 1): Promise<{ errno: number; payload: Buffer }> {
    const unique = (this.#unique += 2);
    this.feed(message(op, body, { unique, nodeid }));
    await this.dispatcher.drained();
    const reply = this.replies.find((r) => Number(r.readBigUInt64LE(8)) === unique)!;
    expect(reply.readUInt32LE(0)).toBe(reply.length);
    return { errno: Math.abs(reply.readInt32LE(4)), payload: reply.subarray(16) };
  }
}

const name = (text: string) => Buffer.from(`${text}\0`);
function create(text: string): Buffer {
  const head = Buffer.alloc(S.CREATE_IN.size);
  S.CREATE_IN.write(viewOf(head), 0, { flags: 2, mode: 0o100644 });
  return Buffer.concat([head, name(text)]);
}

describe('Dispatcher', () => {
  it('creates, writes, reads, lists and releases', async () => {
    const kernel = new Kernel();
    const created = await kernel.ask('CREATE', create('f'));
    const { nodeid } = S.ENTRY_OUT.read(viewOf(created.payload), 0);
    const { fh } = S.OPEN_OUT.read(viewOf(created.payload), S.ENTRY_OUT.size);
    const written = await kernel.ask('WRITE', transfer({ fh, offset: 10, size: 5 }, Buffer.from('hello')).subarray(40), nodeid);
    expect(S.WRITE_OUT.read(viewOf(written.payload), 0).size).toBe(5);
    const read = await kernel.ask('READ', transfer({ fh, offset: 8, size: 100 }).subarray(40), nodeid);
    expect(read.payload.toString()).toBe('\0\0hello');
    expect((await kernel.ask('READ', transfer({ fh: 99, offset: 0, size: 1 }).subarray(40), nodeid)).errno).toBe(ERRNO.EBADF);
    expect((await kernel.ask('READ', transfer({ fh, offset: 0, size: 2 << 20 }).subarray(40), nodeid)).errno).toBe(ERRNO.EINVAL);
    const { fh: directory } = S.OPEN_OUT.read(viewOf((await kernel.ask('OPENDIR', Buffer.alloc(8))).payload), 0);
    expect((await kernel.ask('READDIR', transfer({ fh: directory, offset: 0, size: 4096 }).subarray(40))).payload.includes('f')).toBe(true);
    expect((await kernel.ask('ACCESS', Buffer.alloc(8))).errno).toBe(ERRNO.ENOSYS);
    await kernel.dispatcher.releaseAll();
    expect(kernel.handler.counts).toMatchObject({ released: 2, destroyed: 1 });
    expect(kernel.held).toBe(0);
  });

  it('gives back what an answer that nobody wants has counted', async () => {
    const kernel = new Kernel();
    kernel.answer = 'gone';
    await kernel.ask('CREATE', create('f'));
    expect(kernel.handler.counts.released).toBe(1);
    kernel.answer = 'sent';
    expect((await kernel.ask('UNLINK', name('f'))).errno).toBe(0);
    await new Promise(setImmediate);
    expect(kernel.handler.inodes).toBe(1); // no reference was left on it
  });

  it('answers in any order and lets slow requests wait', async () => {
    let release!: () => void;
    const slow = new Promise<void>((resolve) => { release = resolve; });
    let first = true;
    const kernel = new Kernel({ slow: () => {
      if (!first) return Promise.resolve();
      first = false;
      return slow;
    } });
    kernel.feed(message('LOOKUP', name('a'), { unique: 1000 }));
    kernel.feed(message('GETATTR', Buffer.alloc(16), { unique: 1002 }));
    expect(kernel.replies.map((reply) => Number(reply.readBigUInt64LE(8)))).toEqual([1002]);
    release();
    await kernel.dispatcher.drained();
    expect(kernel.replies.map((reply) => Number(reply.readBigUInt64LE(8)))).toEqual([1002, 1000]);
  });

  it('any message gets one reply or ends the session, and the file system stays usable', async () => {
    const silent: readonly OpName[] = ['FORGET', 'BATCH_FORGET', 'INTERRUPT'];
    await fc.assert(fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom(...(Object.keys(OPCODE) as OpName[])), fc.uint8Array({ maxLength: 160 }), fc.nat(3), fc.nat(12)), { maxLength: 12 }),
      async (messages) => {
        const kernel = new Kernel();
        let expected = 0;
        let unique = 10;
        for (const [op, body, nodeid, damage] of messages) {
          // Half the bodies begin with small numbers, so that handles and nodes are hit too.
          const bytes = message(op, body.length % 2 === 0 ? Buffer.concat([Buffer.from([body.length % 4, 0, 0, 0, 0, 0, 0, 0]), body]) : body, { unique: (unique += 2), nodeid });
          if (damage === 0) bytes[0] ^= 1;
          try {
            kernel.feed(bytes);
            if (!silent.includes(op)) expected++;
          } catch (error) {
            expect(error).toBeInstanceOf(FramingError);
          }
        }
        await kernel.dispatcher.drained();
        expect(kernel.replies.length).toBe(expected);
        expect(kernel.held).toBe(0);
        for (const reply of kernel.replies) expect(reply.readUInt32LE(0)).toBe(reply.length);
        expect((await kernel.ask('CREATE', create('still-here'))).errno).toBe(0);
        await kernel.dispatcher.releaseAll();
      },
    ), { numRuns: 300 });
  });
});
