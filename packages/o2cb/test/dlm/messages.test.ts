import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CorruptionError } from '@lunfs/device';
import { MESSAGES, type Codec, type MessageType, domainKey, parseJoinReply } from '../../src/dlm/index.js';
import { joinReply } from '../../src/dlm/messages.js';
import { Magic } from '../../src/net/frame.js';
import { CAPTURES, decodeLines, readO2net } from '../support/captures.js';

const codecs = MESSAGES as unknown as Readonly<Record<number, Codec<unknown> | undefined>>;

function requests(name: string) {
  return readO2net(name).items.flatMap((item) => (item.kind === 'frame' && item.frame.magic === Magic.MESSAGE ? [item] : []));
}

describe('payloads of o2dlm (checklist 3)', () => {
  const seen = new Set<string>();

  it.each(CAPTURES)('%s: every payload decodes and encodes to the same bytes', (capture) => {
    for (const { frame } of requests(capture)) {
      const codec = codecs[frame.type];
      if (codec === undefined) throw new Error(`message ${frame.type}`);
      expect(frame.payload.length).toBeLessThanOrEqual(codec.maxLength);
      const decoded = codec.decode(frame.payload);
      expect(Buffer.from(codec.encode(decoded)).toString('hex'), codec.name).toBe(Buffer.from(frame.payload).toString('hex'));
      seen.add(codec.name);
    }
  });

  it('the captures have every kind of message', () => {
    expect([...seen].sort()).toEqual(Object.values(codecs).map((codec) => codec?.name).sort());
  });

  it('says what another decoder says of locks', () => {
    let compared = 0;
    for (const capture of CAPTURES) {
      const lines = decodeLines(capture).filter((line) => /cookie=\d+:\d+ /.test(line));
      const frames = requests(capture).filter(({ frame }) => [503, 504, 505, 506].includes(frame.type));
      expect(frames.length).toBe(lines.length);
      lines.forEach((line, i) => {
        const { frame, from } = frames[i];
        const message = codecs[frame.type]?.decode(frame.payload) as { cookie: bigint; node: number; name: string };
        const [, node, sequence] = /cookie=(\d+):(\d+) /.exec(line) ?? [];
        expect(message.cookie).toBe((BigInt(node) << 56n) | BigInt(sequence));
        expect(message.node).toBe(from);
        if (!message.name.startsWith('N')) expect(line).toContain(message.name);
        compared++;
      });
    }
    expect(compared).toBe(491);
  });

  it('whatever arrives is a message or a CorruptionError, and never read beyond its end', () => {
    for (const [type, codec] of Object.entries(codecs)) {
      if (codec === undefined) throw new Error(type);
      fc.assert(fc.property(fc.uint8Array({ maxLength: codec.maxLength + 8 }), (bytes) => {
        try {
          const value = codec.decode(bytes);
          codec.decode(codec.encode(value));
        } catch (error) {
          expect(error).toBeInstanceOf(CorruptionError);
        }
      }), { numRuns: 60 });
    }
  });

  it('names are 1 to 32 bytes', () => {
    const codec = MESSAGES[500 as MessageType] as Codec<unknown>;
    for (const length of [0, 33, 64, 255]) {
      const bytes = new Uint8Array(72);
      bytes[1] = length;
      expect(() => codec.decode(bytes)).toThrow(CorruptionError);
    }
  });

  it('keys of domains and answers to a query', () => {
    expect(domainKey('0123456789ABCDEF0123456789ABCDEF')).toBe(0xce613ceb);
    expect(domainKey('00000000000000000000000000000ABC')).toBe(0x38cefee8);
    expect(joinReply(1, 3, 0)).toBe(0x01030000);
    expect(parseJoinReply(0x01030000)).toEqual({ code: 1, dlmMinor: 3, fsMinor: 0 });
    expect(parseJoinReply(joinReply(255, 1, 2))).toEqual({ code: 255, dlmMinor: 1, fsMinor: 2 });
  });
});
