/** Every payload of o2dlm (cluster-protocols.md 5; Linux 6.1 fs/ocfs2/dlm/dlmcommon.h), decoded and encoded by tables. */
import { NODE_MAP_BYTES } from '../node-map.js';
import { type Struct, be16, be32, be64, bytes, malformed, nodeNumber, nodes, s8, struct, text, u8 } from './packet.js';
import { EX, FLAG, IV, LVB_SIZE, MAX_MIGRATABLE_LOCKS, NL, PR, TYPE } from './status.js';

const NAME = 64;
/** A lock's name has at most 32 bytes, whatever the room for it. */
const LONGEST_LOCK = 32;
const REGIONS = 32;
const REGION = 32;
const NODES = 255;

export interface Codec<V> {
  readonly name: string;
  /** The largest payload. */
  readonly maxLength: number;
  /** Throws CorruptionError DLM_PAYLOAD when it is no such message; bytes that follow are ignored. */
  decode(payload: Uint8Array): V;
  encode(value: V): Uint8Array;
}

const lockName = (what: string, lengthAt: number, at: number, capacity = NAME) => text(what, lengthAt, at, capacity, LONGEST_LOCK);

function fixed<V>(name: string, layout: Struct<V>): Codec<V> {
  return {
    name, maxLength: layout.size,
    decode: (payload) => layout.read(payload),
    encode(value) {
      const out = new Uint8Array(layout.size);
      layout.write(out, value);
      return out;
    },
  };
}

/** A structure that an LVB follows when its flags have `flag`. */
function withLvb<V extends { readonly flags: number }>(name: string, layout: Struct<V>, flag: number): Codec<V & { readonly lvb?: Uint8Array }> {
  return {
    name, maxLength: layout.size + LVB_SIZE,
    decode(payload) {
      const value = layout.read(payload);
      if ((value.flags & flag) === 0) return value;
      if (payload.length < layout.size + LVB_SIZE) throw malformed(name, 'its value block is missing');
      return { ...value, lvb: payload.slice(layout.size, layout.size + LVB_SIZE) };
    },
    encode(value) {
      const out = new Uint8Array(layout.size + (value.lvb === undefined ? 0 : LVB_SIZE));
      layout.write(out, value);
      if (value.lvb !== undefined) out.set(value.lvb, layout.size);
      return out;
    },
  };
}

const mastery = (name: string) => fixed(name, struct(name, 72, { node: u8(0), name: lockName(name, 1, 8), flags: be32(4) }));
const lockRequest = (name: string) => struct(name, 80, { cookie: be64(0), flags: be32(8), node: u8(13), mode: s8(14), name: lockName(name, 15, 16) });
const reference = (name: string) => fixed(name, struct(name, 72, { node: u8(6), name: lockName(name, 7, 8) }));
const joining = (name: string) => fixed(name, struct(name, 68, { node: u8(0), domain: text(name, 3, 4, NAME, NAME) }));
const exiting = (name: string) => fixed(name, struct(name, 4, { node: u8(0) }));
const recovering = (name: string) => fixed(name, struct(name, 8, { node: u8(0), dead: nodeNumber(name, 1) }));

/** A lock in MIG_LOCKRES. */
export interface PackedLock {
  readonly cookie: bigint;
  /** 0 granted, 1 converting, 2 blocked. */
  readonly list: number;
  readonly flags: number;
  readonly mode: number;
  readonly convertMode: number;
  readonly highestBlocked: number;
  readonly node: number;
}

const packedLock: Struct<PackedLock> = struct('MIG_LOCKRES', 16, {
  cookie: be64(0), list: u8(10), flags: u8(11), mode: s8(12), convertMode: s8(13), highestBlocked: s8(14), node: u8(15),
});
const lockresHead = struct('MIG_LOCKRES', 112, {
  master: u8(0), name: lockName('MIG_LOCKRES', 1, 16, 32), count: u8(2), flags: u8(3), total: be32(4), cookie: be64(8), lvb: bytes(48, LVB_SIZE),
});

const MODES = new Set<number>([IV, NL, PR, EX]);

export interface MigratedResource {
  /** The owner before; 255 when it is not known. */
  readonly master: number;
  readonly name: string;
  readonly flags: number;
  /** Locks in all messages of this resource. */
  readonly total: number;
  readonly cookie: bigint;
  readonly lvb: Uint8Array;
  readonly locks: readonly PackedLock[];
}

const migLockres: Codec<MigratedResource> = {
  name: 'MIG_LOCKRES',
  maxLength: lockresHead.size + MAX_MIGRATABLE_LOCKS * packedLock.size,
  decode(payload) {
    const { count, ...head } = lockresHead.read(payload);
    if (count > MAX_MIGRATABLE_LOCKS) throw malformed('MIG_LOCKRES', `${count} locks (at most ${MAX_MIGRATABLE_LOCKS})`);
    const locks = Array.from({ length: count }, (_, i) => packedLock.read(payload, lockresHead.size + i * packedLock.size));
    for (const { list, mode, convertMode } of locks) {
      if (list > 2 || !MODES.has(mode) || !MODES.has(convertMode)) throw malformed('MIG_LOCKRES', `a lock of mode ${mode}, to ${convertMode}, on list ${list}`);
    }
    return { ...head, locks };
  },
  encode(value) {
    const out = new Uint8Array(lockresHead.size + value.locks.length * packedLock.size);
    lockresHead.write(out, { ...value, count: value.locks.length });
    for (const [i, lock] of value.locks.entries()) packedLock.write(out, lock, lockresHead.size + i * packedLock.size);
    return out;
  },
};

const regionHead = struct('QUERY_REGION', 68, { node: u8(0), count: u8(1), domain: text('QUERY_REGION', 2, 4, NAME, NAME) });

export interface RegionQuery {
  readonly node: number;
  readonly domain: string;
  /** UUIDs of the heartbeat's regions; empty with local heartbeat. */
  readonly regions: readonly string[];
}

const queryRegion: Codec<RegionQuery> = {
  name: 'QUERY_REGION',
  maxLength: regionHead.size + REGIONS * REGION,
  decode(payload) {
    const { count, ...head } = regionHead.read(payload);
    if (count > REGIONS || payload.length < this.maxLength) throw malformed('QUERY_REGION', `${count} regions in ${payload.length} bytes`);
    const at = (i: number) => regionHead.size + i * REGION;
    return { ...head, regions: Array.from({ length: count }, (_, i) => Buffer.from(payload.subarray(at(i), at(i + 1))).toString('latin1').replace(/\0+$/, '')) };
  },
  encode({ regions, ...head }) {
    const out = new Uint8Array(this.maxLength);
    regionHead.write(out, { ...head, count: regions.length });
    for (const [i, region] of regions.entries()) Buffer.from(out.buffer, regionHead.size + i * REGION, REGION).write(region, 'latin1');
    return out;
  },
};

const nodeEntry = struct('QUERY_NODEINFO', 8, { node: u8(0), port: be16(2), address: be32(4) });
const nodeHead = struct('QUERY_NODEINFO', 68, { node: u8(0), count: u8(1), domain: text('QUERY_NODEINFO', 2, 4, NAME, NAME) });

export interface NodeInfo {
  readonly node: number;
  readonly port: number;
  /** IPv4 address as an unsigned number, the first octet in the highest byte. */
  readonly address: number;
}

const queryNodeInfo: Codec<{ readonly node: number; readonly domain: string; readonly nodes: readonly NodeInfo[] }> = {
  name: 'QUERY_NODEINFO',
  maxLength: nodeHead.size + NODES * nodeEntry.size,
  decode(payload) {
    const { count, ...head } = nodeHead.read(payload);
    return { ...head, nodes: Array.from({ length: count }, (_, i) => nodeEntry.read(payload, nodeHead.size + i * nodeEntry.size)) };
  },
  encode({ nodes: list, ...head }) {
    const out = new Uint8Array(this.maxLength);
    nodeHead.write(out, { ...head, count: list.length });
    for (const [i, entry] of list.entries()) nodeEntry.write(out, entry, nodeHead.size + i * nodeEntry.size);
    return out;
  },
};

/** The codec of each message, by its number. */
export const MESSAGES = {
  [TYPE.MASTER_REQUEST]: mastery('MASTER_REQUEST'),
  [TYPE.ASSERT_MASTER]: mastery('ASSERT_MASTER'),
  [TYPE.CREATE_LOCK]: fixed('CREATE_LOCK', lockRequest('CREATE_LOCK')),
  [TYPE.CONVERT_LOCK]: withLvb('CONVERT_LOCK', lockRequest('CONVERT_LOCK'), FLAG.PUT_LVB),
  [TYPE.PROXY_AST]: withLvb('PROXY_AST', struct('PROXY_AST', 80, {
    cookie: be64(0), flags: be32(8), node: u8(12), type: u8(13), blocked: u8(14), name: lockName('PROXY_AST', 15, 16),
  }), FLAG.GET_LVB),
  [TYPE.UNLOCK_LOCK]: withLvb('UNLOCK_LOCK', struct('UNLOCK_LOCK', 80, { cookie: be64(0), flags: be32(8), node: u8(14), name: lockName('UNLOCK_LOCK', 15, 16) }), FLAG.PUT_LVB),
  [TYPE.DEREF_LOCKRES]: reference('DEREF_LOCKRES'),
  [TYPE.MIGRATE_REQUEST]: fixed('MIGRATE_REQUEST', struct('MIGRATE_REQUEST', 72, { master: u8(0), newMaster: u8(1), name: lockName('MIGRATE_REQUEST', 2, 8) })),
  [TYPE.MIG_LOCKRES]: migLockres,
  [TYPE.QUERY_JOIN]: fixed('QUERY_JOIN', struct('QUERY_JOIN', 72 + NODE_MAP_BYTES, {
    node: u8(0), domain: text('QUERY_JOIN', 3, 8, NAME, NAME), dlmMajor: u8(4), dlmMinor: u8(5), fsMajor: u8(6), fsMinor: u8(7), live: nodes(72),
  })),
  [TYPE.ASSERT_JOINED]: joining('ASSERT_JOINED'),
  [TYPE.CANCEL_JOIN]: joining('CANCEL_JOIN'),
  [TYPE.EXIT_DOMAIN]: exiting('EXIT_DOMAIN'),
  [TYPE.MASTER_REQUERY]: fixed('MASTER_REQUERY', struct('MASTER_REQUERY', 72, { node: u8(2), name: lockName('MASTER_REQUERY', 3, 8) })),
  [TYPE.LOCK_REQUEST]: recovering('LOCK_REQUEST'),
  [TYPE.RECO_DATA_DONE]: fixed('RECO_DATA_DONE', struct('RECO_DATA_DONE', 72, { node: u8(0), dead: u8(1) })),
  [TYPE.BEGIN_RECO]: recovering('BEGIN_RECO'),
  [TYPE.FINALIZE_RECO]: fixed('FINALIZE_RECO', struct('FINALIZE_RECO', 8, { node: u8(0), dead: u8(1), flags: u8(2) })),
  [TYPE.QUERY_REGION]: queryRegion,
  [TYPE.QUERY_NODEINFO]: queryNodeInfo,
  [TYPE.BEGIN_EXIT_DOMAIN]: exiting('BEGIN_EXIT_DOMAIN'),
  [TYPE.DEREF_LOCKRES_DONE]: reference('DEREF_LOCKRES_DONE'),
} as const;

export type MessageType = keyof typeof MESSAGES;
/** What a message says, by its number. */
export type Message<T extends MessageType> = (typeof MESSAGES)[T] extends Codec<infer V> ? V : never;

export function encode<T extends MessageType>(type: T, value: Message<T>): Uint8Array {
  return (MESSAGES[type] as unknown as Codec<Message<T>>).encode(value);
}

export function decode<T extends MessageType>(type: T, payload: Uint8Array): Message<T> {
  return (MESSAGES[type] as unknown as Codec<Message<T>>).decode(payload);
}

/** The answer to QUERY_JOIN: four bytes in the order of the wire, read as one signed number. */
export function joinReply(code: number, dlmMinor = 0, fsMinor = 0): number {
  return (code << 24) | (dlmMinor << 16) | (fsMinor << 8);
}

export function parseJoinReply(status: number): { readonly code: number; readonly dlmMinor: number; readonly fsMinor: number } {
  return { code: status >>> 24, dlmMinor: (status >>> 16) & 0xff, fsMinor: (status >>> 8) & 0xff };
}
