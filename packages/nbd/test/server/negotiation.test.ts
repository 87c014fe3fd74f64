import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IHAVEOPT, MAX_OPTION, Option, OptionReply } from '../../src/protocol.js';
import { Negotiation, type Step } from '../../src/server/negotiation.js';
import { MemoryBackend } from '../support/backends.js';

const disk = { name: 'disk', backend: new MemoryBackend(1 << 20) };
const table = { find: (name: string) => (name === 'disk' || name === '' ? disk : undefined), all: () => [disk] };

function begun(tls = false, flags = 3): Negotiation {
  const negotiation = new Negotiation({ exports: table, tls });
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(flags, 0);
  expect(negotiation.receive(bytes)).toEqual([]);
  return negotiation;
}

function option(code: number, data: Buffer = Buffer.alloc(0), length = data.length): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(IHAVEOPT, 0);
  header.writeUInt32BE(code, 8);
  header.writeUInt32BE(length, 12);
  return Buffer.concat([header, data]);
}

/** Reply types of the steps, or the kind of a step that is no reply. */
function answers(steps: Step[]): (number | string)[] {
  return steps.map((step) => (step.kind === 'send' ? step.bytes.readUInt32BE(12) : step.kind));
}

function name(text: string, ...rest: number[]): Buffer {
  const bytes = Buffer.alloc(4 + text.length + 2 * rest.length);
  bytes.writeUInt32BE(text.length, 0);
  bytes.write(text, 4);
  rest.forEach((value, i) => { bytes.writeUInt16BE(value, 4 + text.length + 2 * i); });
  return bytes;
}

describe('negotiation', () => {
  it('answers GO the same in whatever pieces it arrives, and keeps what follows', () => {
    const bytes = Buffer.concat([option(Option.STRUCTURED_REPLY), option(Option.GO, name('disk', 1, 3)), Buffer.from('requests')]);
    const whole = begun().receive(bytes);
    expect(answers(whole)).toEqual([OptionReply.ACK, OptionReply.INFO, OptionReply.INFO, OptionReply.ACK, 'go']);
    expect(whole.at(-1)).toMatchObject({ granted: { size: 1 << 20, structured: true, allocationContext: false, rest: Buffer.from('requests') } });
    const piecemeal = begun();
    const end = bytes.length - 'requests'.length;
    const steps = Array.from(bytes.subarray(0, end), (byte) => piecemeal.receive(Uint8Array.of(byte))).flat();
    expect(answers(steps)).toEqual(answers(whole));
  });

  it('sends 124 zeroes after EXPORT_NAME unless both agreed not to', () => {
    expect(begun(false, 3).receive(option(Option.EXPORT_NAME, Buffer.from('disk')))[0]).toMatchObject({ bytes: { length: 10 } });
    expect(begun(false, 1).receive(option(Option.EXPORT_NAME, Buffer.from('disk')))[0]).toMatchObject({ bytes: { length: 134 } });
    expect(answers(begun().receive(option(Option.EXPORT_NAME, Buffer.from('other'))))).toEqual(['close']);
  });

  it('refuses what cannot be, and goes on', () => {
    const negotiation = begun();
    for (const [code, data, answer] of [
      [99, Buffer.alloc(7), OptionReply.ERR_UNSUP],
      [Option.LIST, Buffer.alloc(1), OptionReply.ERR_INVALID],
      [Option.STRUCTURED_REPLY, Buffer.alloc(1), OptionReply.ERR_INVALID],
      [Option.STARTTLS, Buffer.alloc(0), OptionReply.ERR_POLICY],
      [Option.GO, Buffer.alloc(5), OptionReply.ERR_INVALID],
      [Option.GO, name('disk', 2, 1), OptionReply.ERR_INVALID],
      [Option.GO, name('other', 0), OptionReply.ERR_UNKNOWN],
      [Option.SET_META_CONTEXT, name('disk', 0, 0), OptionReply.ERR_INVALID],
    ] as const) {
      expect(answers(negotiation.receive(option(code, data)))).toEqual([answer]);
    }
    expect(answers(negotiation.receive(option(Option.STRUCTURED_REPLY)))).toEqual([OptionReply.ACK]);
    expect(answers(negotiation.receive(option(Option.SET_META_CONTEXT, Buffer.concat([name('disk'), Buffer.from([0, 0, 0, 9, 0, 0, 0, 1])]))))).toEqual([OptionReply.ERR_INVALID]);
    expect(answers(negotiation.receive(option(Option.LIST)))).toEqual([OptionReply.SERVER, OptionReply.ACK]);
    expect(answers(negotiation.receive(option(Option.ABORT)))).toEqual([OptionReply.ACK, 'close']);
  });

  it('ends at unknown flags, a wrong magic number, an endless option and options without fixed newstyle', () => {
    expect(answers(new Negotiation({ exports: table, tls: false }).receive(Buffer.from([0, 0, 0, 4])))).toEqual(['close']);
    expect(answers(begun().receive(Buffer.alloc(16)))).toEqual(['close']);
    expect(answers(begun().receive(option(Option.GO, Buffer.alloc(0), MAX_OPTION + 1)))).toEqual(['close']);
    expect(answers(begun(false, 0).receive(option(Option.LIST)))).toEqual(['close']);
  });

  it('tells nothing before TLS, nor anything agreed before it afterwards', () => {
    const negotiation = begun(true);
    for (const code of [Option.LIST, Option.INFO, Option.GO, Option.STRUCTURED_REPLY, 77]) {
      expect(answers(negotiation.receive(option(code)))).toEqual([OptionReply.ERR_TLS_REQD]);
    }
    expect(answers(negotiation.receive(option(Option.STARTTLS)))).toEqual([OptionReply.ACK, 'tls']);
    negotiation.secured();
    expect(answers(negotiation.receive(option(Option.STARTTLS)))).toEqual([OptionReply.ERR_INVALID]);
    expect(answers(negotiation.receive(option(Option.LIST)))).toEqual([OptionReply.SERVER, OptionReply.ACK]);
    expect(answers(begun(true).receive(option(Option.EXPORT_NAME, Buffer.from('disk'))))).toEqual(['close']);
    expect(answers(begun(true).receive(Buffer.concat([option(Option.STARTTLS), option(Option.LIST)])))).toEqual(['close']);
  });

  it('survives anything', () => {
    const header = fc.tuple(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 40 })).map(([code, data]) => option(code, Buffer.from(data)));
    fc.assert(fc.property(fc.array(fc.oneof({ weight: 4, arbitrary: header }, { weight: 1, arbitrary: fc.uint8Array({ maxLength: 64 }) }), { maxLength: 8 }), fc.boolean(), (parts, tls) => {
      const negotiation = begun(tls);
      for (const part of parts) {
        const steps = negotiation.receive(part);
        for (const step of steps.slice(0, -1)) expect(step.kind).toBe('send');
        if (steps.length > 0 && steps.at(-1)!.kind !== 'send') return;
      }
    }));
  });
});
