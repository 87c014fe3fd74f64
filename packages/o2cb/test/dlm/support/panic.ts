/**
 * What makes a kernel node panic (cluster-protocols.md 12; the BUGs of Linux 6.1 fs/ocfs2/dlm), watched in every message between our own nodes:
 * the receiver stands for the kernel that would.
 */
import { type Message, type MessageType, decode } from '../../../src/dlm/messages.js';
import { AST, BAST, FINALIZE_STAGE2, FLAG, IV, MRES, NL, TYPE, lvbIsEmpty } from '../../../src/dlm/status.js';
import { RES } from '../../../src/dlm/resource.js';
import type { BenchNode } from './bench.js';

type Check<T extends MessageType> = (message: Message<T>, from: number, node: BenchNode) => string | undefined | false;
type Checks = { readonly [T in MessageType]?: Check<T> };

const joining = (_: unknown, from: number, { domain: { core } }: BenchNode) =>
  (core.state === 'new' ? core.joiningNode === core.local : core.state !== 'left') && core.joiningNode !== from && `is not joining: ${core.joiningNode} is`;
const serving = (node: BenchNode) => !node.domain.core.serving && 'before the receiver is a member';

/** Why a kernel would panic on getting a message. */
const onRequest: Checks = {
  [TYPE.ASSERT_JOINED]: joining,
  [TYPE.CANCEL_JOIN]: joining,
  [TYPE.ASSERT_MASTER]: ({ name, node }, _, { domain: { core } }) => {
    const res = core.lookup(name);
    if (res === undefined || core.mles.has(name) || res.has(RES.RECOVERING)) return undefined;
    return res.owner !== 255 && res.owner !== node && `asserts what node ${res.owner} owns`;
  },
  [TYPE.CONVERT_LOCK]: (message, from, node) => {
    if (serving(node)) return serving(node);
    const lock = node.domain.core.lookup(message.name)?.granted.find((entry) => entry.cookie === message.cookie && entry.node === from);
    return (message.flags & (FLAG.PUT_LVB | FLAG.GET_LVB)) !== 0 && lock !== undefined && (lock.getLvb || lock.putLvb) && 'a second value block operation';
  },
  [TYPE.UNLOCK_LOCK]: (_, __, node) => serving(node),
  [TYPE.PROXY_AST]: (message, from, node) => {
    const { core } = node.domain;
    if (serving(node)) return serving(node);
    const res = core.lookup(message.name);
    if (res === undefined) return undefined;
    if (res.owner === core.local) return 'an AST to the owner';
    if (message.type !== AST && message.type !== BAST) return `an AST of type ${message.type}`;
    if (message.type === BAST) return message.blocked <= NL && 'a BAST for nothing';
    const lock = [...res.converting, ...res.blocked].find((entry) => entry.cookie === message.cookie);
    return (message.flags & FLAG.GET_LVB) !== 0 && lock !== undefined && !lock.getLvb && `an unwanted value block from node ${from}`;
  },
  [TYPE.DEREF_LOCKRES]: ({ name }, _, { domain: { core } }) => core.resources.get(name)?.has(RES.DROPPING_REF) === true && core.resources.get(name)?.asserting === 0 && 'a reference to what is being dropped',
  [TYPE.MIG_LOCKRES]: (message, _, { domain: { core } }) => {
    const recovery = (message.flags & MRES.RECOVERY) !== 0;
    if ((message.flags & (MRES.RECOVERY | MRES.MIGRATION)) === 0) return 'neither recovery nor migration';
    if (message.master === 255 && !recovery) return 'a migration without an owner';
    if (message.locks.length > 1 && message.locks.some((lock) => lock.cookie === 0n)) return 'a dummy among locks';
    const res = core.resources.get(message.name);
    for (const lock of message.locks) {
      if (lock.highestBlocked !== IV) return 'a BAST that is due';
      if (lock.list !== 1 && lock.convertMode !== IV) return 'a conversion that is not queued';
      if (lock.node !== core.local || lock.cookie === 0n) continue;
      if (recovery) return "the receiver's own lock";
      // (Where a migration's old owner has claimed a resource, which a kernel does not let it, an unlock may still have to reach it.)
      if (res?.claimed !== true && res?.find(lock.cookie, core.local) === undefined) return 'a lock that the receiver has not';
    }
    const holders = message.locks.filter((lock) => lock.list < 2 && lock.mode > NL && lock.cookie !== 0n);
    return holders.length === 0 && !lvbIsEmpty(message.lvb) && 'a value block without a holder';
  },
  [TYPE.RECO_DATA_DONE]: ({ dead }, _, { domain: { core } }) => core.reco.dead !== dead && `is done with node ${dead}, not ${core.reco.dead}`,
  [TYPE.FINALIZE_RECO]: ({ dead, flags }, from, { domain: { core } }) => {
    if (!core.serving) return undefined;
    if (core.reco.master !== from || core.reco.dead !== dead) return `finalizes ${dead} of ${from}, not ${core.reco.dead} of ${core.reco.master}`;
    return core.reco.finalizing !== ((flags & FINALIZE_STAGE2) !== 0) && 'finalizes out of turn';
  },
};

/** Statuses that a kernel takes. */
const statuses: { readonly [T in MessageType]?: readonly number[] } = {
  [TYPE.MASTER_REQUEST]: [0, 1, 2, 3],
  [TYPE.ASSERT_MASTER]: [0, 1, 2, 3],
  [TYPE.CREATE_LOCK]: [0, 11, 21, 32, 39, 40],
  [TYPE.CONVERT_LOCK]: [0, 11, 21, 32, 39, 40],
  [TYPE.UNLOCK_LOCK]: [0, 10, 11, 32, 39, 40],
  [TYPE.PROXY_AST]: [0, 11],
  [TYPE.DEREF_LOCKRES]: [0, 1, -22],
  [TYPE.MIG_LOCKRES]: [0, -22],
  [TYPE.MIGRATE_REQUEST]: [0, 1, -22],
  [TYPE.ASSERT_JOINED]: [0, -11],
  [TYPE.LOCK_REQUEST]: [0, -12],
  [TYPE.BEGIN_RECO]: [0, -11],
  [TYPE.FINALIZE_RECO]: [0],
  [TYPE.RECO_DATA_DONE]: [0],
};

export function panicOnRequest(type: number, payload: Uint8Array, from: number, node: BenchNode): string | undefined {
  const check = onRequest[type as MessageType] as Check<MessageType> | undefined;
  return check?.(decode(type as MessageType, payload), from, node) || undefined;
}

export function panicOnStatus(type: number, status: number): string | undefined {
  const allowed = statuses[type as MessageType];
  if (type === TYPE.MASTER_REQUERY) return status < 0 || status > 255 ? `status ${status}` : undefined;
  return allowed !== undefined && !allowed.includes(status) ? `status ${status}` : undefined;
}
