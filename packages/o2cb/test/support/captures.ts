/** The captures of a kernel cluster (test/fixtures/o2cb/README.md), taken apart into what o2net carried. */
import fs from 'node:fs';
import path from 'node:path';
import { readCapture, type TcpEvent } from '../../../../test/support/pcap.js';
import { type Frame, type Handshake, StreamDecoder } from '../../src/net/frame.js';

const directory = path.resolve(import.meta.dirname, '../../../../test/fixtures/o2cb');

/** Every capture there is, without `.pcap`. */
export const CAPTURES = fs.readdirSync(directory).filter((file) => file.endsWith('.pcap')).map((file) => file.slice(0, -'.pcap'.length));

interface Where {
  /** Seconds since the first IP packet, when the last byte of it was captured. */
  time: number;
  /** Node numbers. */
  from: number;
  to: number;
  /** Ordinal number of the connection within the capture. */
  connection: number;
}

/** What was said, in the order in which it was complete. */
export type Captured = Where & ({ kind: 'handshake'; handshake: Handshake } | { kind: 'frame'; frame: Frame } | { kind: 'tcp'; event: TcpEvent });

export interface Capture {
  items: Captured[];
  /** Every byte of each direction of each connection, as it was captured. */
  streams: { connection: number; from: number; bytes: Buffer }[];
}

/** The number of the node with an address of the captures' network: 192.168.7.10 is node 0. */
function nodeOf(address: string): number {
  return Number(address.split('.')[3]) - 10;
}

/** Decodes a capture; throws when a stream is no o2net, or ends within a frame. */
export function readO2net(name: string): Capture {
  const items: Captured[] = [];
  const streams = new Map<string, { decoder: StreamDecoder; connection: number; from: number; parts: Uint8Array[] }>();
  const opened = new Set<number>();
  for (const event of readCapture(path.join(directory, `${name}.pcap`))) {
    const { time, connection } = event;
    const where = { time, connection, from: nodeOf(event.from.address), to: nodeOf(event.to.address) };
    if (event.kind === 'syn') opened.add(connection);
    if (event.kind !== 'data') {
      items.push({ ...where, kind: 'tcp', event });
      continue;
    }
    const key = `${connection} ${where.from}`;
    let stream = streams.get(key);
    if (!stream) streams.set(key, (stream = { decoder: new StreamDecoder(opened.has(connection)), connection, from: where.from, parts: [] }));
    stream.parts.push(event.bytes);
    stream.decoder.push(event.bytes);
    for (let next = stream.decoder.next(); next; next = stream.decoder.next()) {
      items.push('magic' in next ? { ...where, kind: 'frame', frame: next } : { ...where, kind: 'handshake', handshake: next });
    }
  }
  for (const { decoder, connection, from } of streams.values()) {
    if (decoder.rest > 0) throw new Error(`${name}: ${decoder.rest} bytes of node ${from} on connection ${connection} are no whole frame`);
  }
  return { items, streams: [...streams.values()].map(({ connection, from, parts }) => ({ connection, from, bytes: Buffer.concat(parts) })) };
}

/** The lines of the capture's decode, made by another program: the oracle. */
export function decodeLines(name: string): string[] {
  return fs.readFileSync(path.join(directory, `${name}.decode.txt`), 'utf8').split('\n').filter(Boolean);
}
