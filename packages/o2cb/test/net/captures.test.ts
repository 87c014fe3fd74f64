import { describe, expect, it } from 'vitest';
import { encodeFrame, encodeHandshake, type Frame, Magic } from '../../src/net/frame.js';
import { type Captured, CAPTURES, decodeLines, readO2net } from '../support/captures.js';

/** Message types by the names of the decodes (cluster-protocols.md 5.2). */
const NAMES: Record<number, string> = {
  500: 'MASTER_REQUEST', 502: 'ASSERT_MASTER', 503: 'CREATE_LOCK', 504: 'CONVERT_LOCK', 505: 'PROXY_AST', 506: 'UNLOCK_LOCK', 507: 'DEREF_LOCKRES',
  508: 'MIGRATE_REQUEST', 509: 'MIG_LOCKRES', 510: 'QUERY_JOIN', 511: 'ASSERT_JOINED', 512: 'CANCEL_JOIN', 513: 'EXIT_DOMAIN', 514: 'MASTER_REQUERY',
  515: 'LOCK_REQUEST', 516: 'RECO_DATA_DONE', 517: 'BEGIN_RECO', 518: 'FINALIZE_RECO', 519: 'QUERY_REGION', 520: 'QUERY_NODEINFO', 521: 'BEGIN_EXIT_DOMAIN',
  522: 'DEREF_LOCKRES_DONE',
};

/** What the decode says of the transport: everything but what a payload or a status value means. */
function line(item: Captured): string {
  const head = `${item.time.toFixed(3).padStart(9)} ${item.from}->${item.to}`;
  if (item.kind === 'tcp') {
    const { event } = item;
    const ports = event.kind.startsWith('syn') ? ` ${event.from.port}->${event.to.port}` : '';
    return `${head} TCP ${event.kind.toUpperCase()}${ports}`;
  }
  if (item.kind === 'handshake') {
    const { handshake: h } = item;
    return `${head} HANDSHAKE ver=${h.version} id=${h.connectorId} hb=${h.heartbeatTimeout} idle=${h.idleTimeout} keep=${h.keepaliveDelay} reco=${h.reconnectDelay}`;
  }
  const { frame } = item;
  if (frame.magic === Magic.KEEPALIVE_REQUEST) return `${head} KEEP_REQ`;
  if (frame.magic === Magic.KEEPALIVE_RESPONSE) return `${head} KEEP_RESP`;
  if (frame.magic === Magic.STATUS) return `${head}   STATUS #${frame.number} ${NAMES[frame.type]} sys=${frame.systemStatus}`;
  return `${head} ${NAMES[frame.type]} #${frame.number} key=${frame.key.toString(16).padStart(8, '0')} len=${frame.payload.length}`;
}

function isFrame(item: Captured): item is Captured & { kind: 'frame' } {
  return item.kind === 'frame';
}

describe.each(CAPTURES)('capture %s', (name) => {
  const { items, streams } = readO2net(name);

  it('decodes to what the oracle says, line by line', () => {
    const transport = / (?:TCP (?:SYN(?:\+ACK)? \d+->\d+|FIN|RST)|HANDSHAKE .*|KEEP_\w+| {2}STATUS #\d+ \w+ sys=\d+|\w+ #\d+ key=\w+ len=\d+)/;
    const wanted = decodeLines(name).map((text) => {
      const match = transport.exec(text);
      if (!match) throw new Error(`a line of the decode is not understood: ${text}`);
      return text.slice(0, match.index + match[0].length);
    });
    // The decode names the segment with a FIN before the bytes it carries, and again when it is sent again.
    const isFin = (text: string): boolean => text.endsWith('FIN');
    const lines = items.map(line);
    expect(lines.filter((text) => !isFin(text))).toEqual(wanted.filter((text) => !isFin(text)));
    const ends = (all: string[]): string[] => [...new Set(all.filter(isFin).map((text) => text.trim().slice(text.trim().indexOf(' '))))].sort();
    expect(ends(lines)).toEqual(ends(wanted));
  });

  it('is encoded again byte for byte', () => {
    for (const { connection, from, bytes } of streams) {
      const own = items.filter((item) => item.connection === connection && item.from === from);
      const parts = own.flatMap((item) => (item.kind === 'tcp' ? [] : item.kind === 'handshake' ? encodeHandshake(item.handshake) : encodeFrame(item.frame)));
      expect(Buffer.concat(parts).equals(bytes), `connection ${connection} from node ${from}`).toBe(true);
    }
  });

  it('answers every message with one status', () => {
    const open = new Map<string, Frame>();
    for (const { connection, from, frame } of items.filter(isFrame)) {
      if (frame.magic === Magic.MESSAGE) {
        const key = `${connection} ${from} #${frame.number}`;
        expect(open.has(key), `${key} is asked again before it was answered`).toBe(false);
        open.set(key, frame);
      } else if (frame.magic === Magic.STATUS) {
        const peer = items.find((item) => item.connection === connection && item.from !== from)!.from;
        const key = `${connection} ${peer} #${frame.number}`;
        expect(open.get(key)).toMatchObject({ type: frame.type, key: frame.key, pad: frame.pad });
        open.delete(key);
      }
    }
    // The request that the killed node never answered.
    expect([...open.values()].map(({ type }) => NAMES[type])).toEqual(name === 'recovery-dead-node' ? ['MASTER_REQUEST'] : []);
  });
});
