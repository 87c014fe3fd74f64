import { CorruptionError } from '@lunfs/device';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeFrame, encodeHandshake, type Frame, HeaderLayout, Magic, MAX_PAYLOAD, PROTOCOL_VERSION, StreamDecoder, SystemStatus } from '../../src/net/frame.js';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const anyFrame: fc.Arbitrary<Frame> = fc.record({
  magic: fc.constantFrom(...Object.values(Magic)), type: u16, pad: u16, systemStatus: fc.oneof(fc.constantFrom(...Object.values(SystemStatus)), u32),
  status: fc.integer({ min: -0x80000000, max: 0x7fffffff }), key: u32, number: u32, payload: fc.uint8Array({ maxLength: MAX_PAYLOAD, size: 'max' }),
});

const handshake = { version: PROTOCOL_VERSION, connectorId: 1n, heartbeatTimeout: 60_000, idleTimeout: 30_000, keepaliveDelay: 2_000, reconnectDelay: 2_000 };

function* all(decoder: StreamDecoder): Generator<unknown> {
  for (let next = decoder.next(); next; next = decoder.next()) yield next;
}

it('reads what it wrote, cut into any pieces', () => {
  fc.assert(fc.property(fc.array(anyFrame, { maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 20 }), (frames, cuts) => {
    const stream = Buffer.concat([encodeHandshake(handshake), ...frames.map(encodeFrame)]);
    const decoder = new StreamDecoder();
    const read: unknown[] = [];
    for (let at = 0, i = 0; at < stream.length; i++) {
      const end = at + cuts[i % cuts.length];
      decoder.push(stream.subarray(at, end));
      read.push(...all(decoder));
      at = end;
    }
    expect(read).toEqual([handshake, ...frames]);
    expect(decoder.rest).toBe(0);
  }), { numRuns: 30 });
});

it('refuses what no frame begins with, and payloads over the limit, and stays refusing', () => {
  const header = (change: (view: DataView) => void): Uint8Array => {
    const bytes = encodeFrame({ magic: Magic.MESSAGE, type: 500, payload: Uint8Array.of(1) });
    change(new DataView(bytes.buffer));
    return bytes;
  };
  for (const magic of [0, 0xfa54, 0xfa59, 0x55fa, 0xffff]) {
    const decoder = new StreamDecoder(false);
    decoder.push(header((view) => view.setUint16(HeaderLayout.MAGIC, magic)));
    for (let i = 0; i < 2; i++) expect(() => decoder.next()).toThrow(CorruptionError);
  }
  const decoder = new StreamDecoder(false);
  decoder.push(header((view) => view.setUint16(HeaderLayout.LENGTH, MAX_PAYLOAD + 1)));
  expect(() => decoder.next()).toThrow(/announces 4073 bytes of payload; at most 4072/);
  expect(() => encodeFrame({ magic: Magic.MESSAGE, payload: new Uint8Array(MAX_PAYLOAD + 1) })).toThrow(RangeError);
});
