/** Numbers of o2dlm (cluster-protocols.md 5.2, 5.3, 13; Linux 6.1 fs/ocfs2/dlm/{dlmapi,dlmcommon}.h). */

/** Key of the messages of joining, which are handled before a domain exists. */
export const DLM_MODULE_KEY = 0x666c6172;

export const LVB_SIZE = 64;
/** Locks in one MIG_LOCKRES. */
export const MAX_MIGRATABLE_LOCKS = 240;
export const RECOVERY_LOCK = '$RECOVERY';

/** Version of o2dlm's protocol and of the file system's locking protocol (cluster-protocols.md 6). */
export const DLM_PROTOCOL = { major: 1, minor: 3 } as const;
export const FS_PROTOCOL = { major: 1, minor: 0 } as const;

/** Lock modes. */
export const IV = -1;
export const NL = 0;
export const PR = 3;
export const EX = 5;
export type Level = typeof NL | typeof PR | typeof EX;

export const TYPE = {
  MASTER_REQUEST: 500, ASSERT_MASTER: 502, CREATE_LOCK: 503, CONVERT_LOCK: 504, PROXY_AST: 505, UNLOCK_LOCK: 506, DEREF_LOCKRES: 507,
  MIGRATE_REQUEST: 508, MIG_LOCKRES: 509, QUERY_JOIN: 510, ASSERT_JOINED: 511, CANCEL_JOIN: 512, EXIT_DOMAIN: 513, MASTER_REQUERY: 514,
  LOCK_REQUEST: 515, RECO_DATA_DONE: 516, BEGIN_RECO: 517, FINALIZE_RECO: 518, QUERY_REGION: 519, QUERY_NODEINFO: 520,
  BEGIN_EXIT_DOMAIN: 521, DEREF_LOCKRES_DONE: 522,
} as const;

/** Statuses of create, convert, unlock and AST that are used on the wire. */
export const STATUS = {
  NORMAL: 0, DENIED: 2, SYSERR: 8, CANCELGRANT: 10, IVLOCKID: 11, BADARGS: 19, NOTQUEUED: 21, IVBUFLEN: 22, REJECTED: 26, FORWARD: 32,
  RECOVERING: 39, MIGRATING: 40,
} as const;

export const MASTER_REPLY = { NO: 0, YES: 1, MAYBE: 2, ERROR: 3 } as const;
export const ASSERT_REPLY = { REASSERT: 1, MASTERY_REF: 2 } as const;
export const ASSERT_FLAG = { MLE_CLEANUP: 1, REQUERY: 2, FINISH_MIGRATION: 4 } as const;
export const DEREF_REPLY = { DONE: 0, IN_PROGRESS: 1 } as const;
export const MIGRATE_REPLY_MASTERY_REF = 1;
export const MRES = { RECOVERY: 1, MIGRATION: 2, ALL_DONE: 4 } as const;
export const FINALIZE_STAGE2 = 1;
export const JOIN_REPLY = { DISALLOW: 0, OK: 1, OK_NO_MAP: 2, PROTOCOL_MISMATCH: 3 } as const;

/** Flags of a request (be32 on the wire). */
export const FLAG = {
  VALBLK: 0x100, NOQUEUE: 0x200, CONVERT: 0x400, CANCEL: 0x2000, PUT_LVB: 0x2000_0000, GET_LVB: 0x4000_0000, RECOVERY: 0x8000_0000,
} as const;
/** The same two in a packed lock. */
export const PACKED = { PUT_LVB: 2, GET_LVB: 4 } as const;

export const AST = 0;
export const BAST = 1;

/** Negated errno values as they are sent. */
export const EAGAIN = -11;
export const ENOMEM = -12;
export const EINVAL = -22;

/** Milliseconds (cluster-protocols.md 5.15). */
export const TIME = {
  resend: 50, retryLock: 100, joinBackoff: 200, joinTimeout: 90_000, leavePoll: 500, requery: 500, recoveryMaster: 1000, purge: 8000,
  masteryRecheck: 5000, recoveryPoll: 5000, nodeDeath: 5000,
} as const;

export const EMPTY_LVB: Readonly<Uint8Array> = new Uint8Array(LVB_SIZE);

/** All zero means: no valid value. */
export function lvbIsEmpty(lvb: Readonly<Uint8Array>): boolean {
  return lvb === EMPTY_LVB || lvb.every((byte) => byte === 0);
}

/** May locks of these two modes be granted together? IV conflicts with nothing. */
export function compatible(a: number, b: number): boolean {
  return a <= NL || b <= NL || (a === PR && b === PR);
}
