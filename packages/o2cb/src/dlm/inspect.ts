/** What a domain looks like from this node, for `lunfs locks` and `lunfs cluster status`. Copies, safe to keep. */
import { NO_NODE } from '../node-map.js';
import type { Core, DomainState, RecoveryNodeState } from './core.js';
import { type Lock, type MleKind, RES, type Resource } from './resource.js';
import { IV } from './status.js';

export interface LockView {
  readonly node: number;
  readonly cookie: bigint;
  readonly level: number;
  /** Level asked for, of converting locks. */
  readonly converting?: number;
}

export interface ResourceView {
  /** Latin-1 text of the bytes. */
  readonly name: string;
  /** Undefined while it is not known. */
  readonly owner?: number;
  readonly state: readonly (keyof typeof RES)[];
  /** All locks where this node is the owner, its own elsewhere. */
  readonly granted: readonly LockView[];
  readonly converting: readonly LockView[];
  readonly blocked: readonly LockView[];
  readonly lvb: Uint8Array;
  /** Nodes with a copy; known to the owner. */
  readonly references: readonly number[];
  /** Waits to be forgotten. */
  readonly unused: boolean;
}

export interface DomainView {
  readonly name: string;
  readonly state: DomainState;
  readonly members: readonly number[];
  readonly leaving: readonly number[];
  /** Dead members that are not recovered yet. */
  readonly dead: readonly number[];
  readonly joining?: number;
  readonly protocol: { readonly dlmMinor: number; readonly fsMinor: number };
  readonly recovery?: { readonly dead: number; readonly master?: number; readonly active: boolean; readonly nodes: Readonly<Record<number, RecoveryNodeState>> };
  readonly resources: number;
  readonly masteries: readonly { readonly name: string; readonly kind: MleKind; readonly candidates: readonly number[]; readonly master?: number }[];
}

function lockView(lock: Lock): LockView {
  return { node: lock.node, cookie: lock.cookie, level: lock.mode, ...(lock.convertMode !== IV && { converting: lock.convertMode }) };
}

export function viewResource(core: Core, res: Resource): ResourceView {
  const state = (Object.keys(RES) as (keyof typeof RES)[]).filter((bit) => res.has(RES[bit]));
  return {
    name: res.name, state, ...(res.owner !== NO_NODE && { owner: res.owner }),
    granted: res.granted.map(lockView), converting: res.converting.map(lockView), blocked: res.blocked.map(lockView),
    lvb: res.lvb.slice(), references: [...res.refmap], unused: core.purge.has(res),
  };
}

export function viewDomain(core: Core): DomainView {
  const { reco } = core;
  return {
    name: core.name, state: core.state, members: [...core.domain], leaving: [...core.exiting], dead: [...core.recovery],
    ...(core.joiningNode !== NO_NODE && { joining: core.joiningNode }),
    protocol: { dlmMinor: core.dlmMinor, fsMinor: core.fsMinor },
    ...(reco.dead !== NO_NODE && { recovery: { dead: reco.dead, ...(reco.master !== NO_NODE && { master: reco.master }), active: reco.active, nodes: Object.fromEntries(reco.nodes) } }),
    resources: core.resources.size,
    masteries: [...core.mles.values()].map((mle) => ({ name: mle.name, kind: mle.kind, candidates: [...mle.maybe], ...(mle.master !== NO_NODE && { master: mle.master }) })),
  };
}
