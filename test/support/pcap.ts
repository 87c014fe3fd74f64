/**
 * Reads captures of TCP connections: classic pcap (microseconds, either byte order), Ethernet, IPv4, TCP. Each direction of a
 * connection is put in order, without what was sent twice; a capture may begin in the middle of connections.
 *
 *     for (const event of readCapture('x.pcap')) if (event.kind === 'data') decoders.of(event).push(event.bytes);
 *
 * Whatever it does not understand is an error, as is a hole in a direction: a test that skips what it can't read proves nothing.
 */
import fs from 'node:fs';

export interface Endpoint {
  address: string;
  port: number;
}

/** What a packet brought, in the order of the capture. */
export interface TcpEvent {
  /** Seconds since the first IP packet of the capture. */
  time: number;
  /** Ordinal number of the connection, both directions alike. */
  connection: number;
  from: Endpoint;
  to: Endpoint;
  kind: 'syn' | 'syn+ack' | 'data' | 'fin' | 'rst';
  /** Bytes that came in order; empty unless `data`. */
  bytes: Uint8Array;
}

interface Direction {
  /** Sequence number of the next byte in order; undefined until the first one is seen. */
  next?: number;
  finished: boolean;
  /** Segments that came too early. */
  early: { sequence: number; bytes: Uint8Array; fin: boolean }[];
}

interface Connection {
  number: number;
  directions: Map<string, Direction>;
}

const PCAP_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const LINKTYPE_ETHERNET = 1;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const PROTOCOL_TCP = 6;
const Flag = { FIN: 1, SYN: 2, RST: 4, ACK: 16 } as const;

/** All events of a capture file, in order. */
export function readCapture(file: string): TcpEvent[] {
  const reader = new CaptureReader();
  const bytes = fs.readFileSync(file);
  const little = bytes.readUInt32LE(0) === 0xa1b2c3d4;
  if (!little && bytes.readUInt32BE(0) !== 0xa1b2c3d4) throw new Error(`${file}: no classic pcap with microseconds`);
  const u32 = (at: number): number => (little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  if (u32(20) !== LINKTYPE_ETHERNET) throw new Error(`${file}: link type ${u32(20)}, not Ethernet`);
  let at = PCAP_HEADER_BYTES;
  while (at < bytes.length) {
    const [captured, original] = [u32(at + 8), u32(at + 12)];
    if (captured !== original) throw new Error(`${file}: a packet of ${original} bytes was cut to ${captured} at offset ${at}`);
    if (at + RECORD_HEADER_BYTES + captured > bytes.length) throw new Error(`${file}: ends within a packet at offset ${at}`);
    reader.packet(u32(at) + u32(at + 4) / 1e6, bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + captured));
    at += RECORD_HEADER_BYTES + captured;
  }
  reader.end();
  return reader.events;
}

class CaptureReader {
  readonly events: TcpEvent[] = [];
  readonly #open = new Map<string, Connection>();
  #connections = 0;
  #start: number | undefined;

  packet(time: number, frame: Buffer): void {
    const type = frame.readUInt16BE(12);
    if (type === ETHERTYPE_ARP) return;
    if (type !== ETHERTYPE_IPV4) throw new Error(`Ethernet type 0x${type.toString(16)}`);
    this.#start ??= time;
    const ip = frame.subarray(14);
    if (ip[0] >> 4 !== 4 || ip[9] !== PROTOCOL_TCP || (ip.readUInt16BE(6) & 0x3fff) !== 0) throw new Error('an IP packet that is not an unfragmented IPv4 packet of TCP');
    const tcp = ip.subarray((ip[0] & 15) * 4, ip.readUInt16BE(2)); // what follows the IP length is Ethernet's padding
    const from = { address: ip.subarray(12, 16).join('.'), port: tcp.readUInt16BE(0) };
    const to = { address: ip.subarray(16, 20).join('.'), port: tcp.readUInt16BE(2) };
    this.#segment({ time: time - this.#start, from, to }, tcp.readUInt32BE(4), tcp[13], tcp.subarray((tcp[12] >> 4) * 4));
  }

  /** Refuses a hole that was never filled. */
  end(): void {
    for (const { number, directions } of this.#open.values()) {
      for (const [from, { early }] of directions) if (early.length > 0) throw new Error(`connection ${number}: bytes from ${from} are missing in the capture`);
    }
  }

  #segment(head: Pick<TcpEvent, 'time' | 'from' | 'to'>, sequence: number, flags: number, bytes: Buffer): void {
    const [source, target] = [head.from, head.to].map(({ address, port }) => `${address}:${port}`);
    const key = [source, target].sort().join(' ');
    let connection = this.#open.get(key);
    // A SYN sent again is the same connection; one after bytes or an end is a new one that reuses the ports.
    const again = connection?.directions.get(source)?.next === (sequence + 1) >>> 0;
    const opens = (flags & Flag.SYN) !== 0 && (flags & Flag.ACK) === 0;
    if (!connection || (opens && !again)) {
      connection = { number: this.#connections++, directions: new Map() };
      this.#open.set(key, connection);
    }
    let direction = connection.directions.get(source);
    if (!direction) connection.directions.set(source, (direction = { finished: false, early: [] }));
    const { number } = connection;
    const emit = (kind: TcpEvent['kind'], data: Uint8Array = new Uint8Array()): void => {
      this.events.push({ ...head, connection: number, kind, bytes: data });
    };
    if (flags & Flag.SYN) {
      if (direction.next === undefined) emit(opens ? 'syn' : 'syn+ack');
      direction.next = (sequence + 1) >>> 0;
    }
    if (flags & Flag.RST) return emit('rst');
    if (bytes.length === 0 && (flags & Flag.FIN) === 0) return;
    direction.next ??= sequence;
    direction.early.push({ sequence, bytes, fin: (flags & Flag.FIN) !== 0 });
    deliver(direction, emit);
  }
}

/** Hands on what is in order now. Sequence numbers wrap: distances are signed 32 bits. */
function deliver(direction: Direction, emit: (kind: 'data' | 'fin', data?: Uint8Array) => void): void {
  for (;;) {
    const next = direction.next!;
    const index = direction.early.findIndex(({ sequence }) => ((sequence - next) | 0) <= 0);
    if (index < 0) return;
    const [{ sequence, bytes, fin }] = direction.early.splice(index, 1);
    const known = (next - sequence) | 0;
    if (known < bytes.length) {
      emit('data', bytes.subarray(known));
      direction.next = (sequence + bytes.length) >>> 0;
    }
    if (fin && !direction.finished && known <= bytes.length) {
      direction.finished = true;
      direction.next = (direction.next! + 1) >>> 0;
      emit('fin');
    }
  }
}
