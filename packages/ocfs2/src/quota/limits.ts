/**
 * Limits of one id, and what a change of its use means to them (Linux 6.1 fs/quota/dquot.c: dquot_add_space,
 * dquot_add_inodes, dquot_decr_space). A hard limit is never passed; a soft one may be, until the grace period that began
 * then is over. Pure functions.
 */

/** Bytes and inodes an id may use; 0: as much as there is. */
export interface QuotaLimits {
  readonly spaceSoft: number;
  readonly spaceHard: number;
  readonly inodeSoft: number;
  readonly inodeHard: number;
}

export const NO_LIMITS: QuotaLimits = { spaceSoft: 0, spaceHard: 0, inodeSoft: 0, inodeHard: 0 };

/** When the grace periods end, in seconds since 1970; 0: none runs. */
export interface QuotaTimes {
  readonly spaceTime: number;
  readonly inodeTime: number;
}

/** Grace periods in seconds. */
export interface QuotaGrace {
  readonly space: number;
  readonly inodes: number;
}

export interface QuotaUse {
  readonly space: number;
  readonly inodes: number;
}

/** Which limit stands in the way. */
export interface Exceeded {
  readonly what: 'space' | 'inodes';
  readonly limit: number;
  readonly why: 'hard' | 'grace';
}

interface OneLimit {
  readonly soft: number;
  readonly hard: number;
  readonly until: number;
  readonly grace: number;
}

/** The end of the grace period after a change to `use`, or the limit that forbids it. */
function changeOne(what: Exceeded['what'], use: number, change: number, { soft, hard, until, grace }: OneLimit, now: number, exempt: boolean): number | Exceeded {
  if (change <= 0) return use <= soft ? 0 : until;
  if (!exempt && hard > 0 && use > hard) return { what, limit: hard, why: 'hard' };
  if (soft === 0 || use <= soft) return until;
  if (!exempt && until > 0 && now >= until) return { what, limit: soft, why: 'grace' };
  return until > 0 ? until : now + grace;
}

/** Grace times after a change, or the limit in its way. `use`: after the change. `exempt`: the caller may pass limits. */
export function applyLimits(limits: QuotaLimits, times: QuotaTimes, grace: QuotaGrace, use: QuotaUse, change: QuotaUse, now: number, exempt: boolean): QuotaTimes | Exceeded {
  const { spaceSoft, spaceHard, inodeSoft, inodeHard } = limits;
  const inodeTime = changeOne('inodes', use.inodes, change.inodes, { soft: inodeSoft, hard: inodeHard, until: times.inodeTime, grace: grace.inodes }, now, exempt);
  if (typeof inodeTime !== 'number') return inodeTime;
  const spaceTime = changeOne('space', use.space, change.space, { soft: spaceSoft, hard: spaceHard, until: times.spaceTime, grace: grace.space }, now, exempt);
  return typeof spaceTime !== 'number' ? spaceTime : { spaceTime, inodeTime };
}

/**
 * Grace times once use is known in the whole cluster: `ours` from this node, `theirs` from the global file; the earlier one
 * counts (Linux 6.1 fs/ocfs2/quota_global.c:__ocfs2_sync_dquot).
 */
export function mergeTimes(limits: QuotaLimits, use: QuotaUse, ours: QuotaTimes, theirs: QuotaTimes): QuotaTimes {
  const one = (soft: number, used: number, a: number, b: number): number => {
    if (soft === 0 || used <= soft) return 0;
    return a > 0 && b > 0 ? Math.min(a, b) : Math.max(a, b);
  };
  return {
    spaceTime: one(limits.spaceSoft, use.space, ours.spaceTime, theirs.spaceTime),
    inodeTime: one(limits.inodeSoft, use.inodes, ours.inodeTime, theirs.inodeTime),
  };
}

/** Grace times after limits were set: a period begins anew where use exceeds the soft limit (dquot.c:do_set_dqblk). */
export function timesAfterSetting(limits: QuotaLimits, use: QuotaUse, grace: QuotaGrace, now: number): QuotaTimes {
  return {
    spaceTime: limits.spaceSoft > 0 && use.space > limits.spaceSoft ? now + grace.space : 0,
    inodeTime: limits.inodeSoft > 0 && use.inodes > limits.inodeSoft ? now + grace.inodes : 0,
  };
}
