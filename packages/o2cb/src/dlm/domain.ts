/**
 * o2dlm on this node: its domains, and the messages that belong to them. The face of this room.
 *
 * Handlers are local: they change state and answer in the call; what follows runs when the answer is on its way (loop.ts). Payloads that are
 * malformed, or that speak for another node than their sender, change nothing and cost the sender its connection.
 */
import { crc32 } from 'node:zlib';
import { ClusterError, InternalError } from '@lunfs/device';
import { type Membership, type Messenger, ORDER_DLM, type Scheduler } from '../ports.js';
import { Core, type DlmEvent } from './core.js';
import { type DomainView, type ResourceView, viewDomain, viewResource } from './inspect.js';
import {
  type JoinFacts, answerAssertJoined, answerCancelJoin, answerNodeInfo, answerQueryJoin, answerRegions, handleBeginExit, handleExit, join, leave,
} from './join.js';
import { ClientLock, type LockEvents, type LockOptions, handleProxyAst } from './locks-client.js';
import { handleConvert, handleCreate, handleUnlock, schedule } from './locks-master.js';
import type { Task } from './loop.js';
import { handleAssert, handleMasterRequest, handleRequery } from './mastery.js';
import { MESSAGES, type Message, type MessageType, decode } from './messages.js';
import { handleMigLockres, handleMigrateRequest } from './migration.js';
import { handleBeginReco, handleDataDone, handleFinalize, handleLockRequest, nodeDown, recoveryTask } from './recovery.js';
import { handleDeref, handleDerefDone, purgeUnused } from './references.js';
import { malformed } from './packet.js';
import { DLM_MODULE_KEY, type Level, TYPE } from './status.js';

export interface DlmOptions extends JoinFacts {
  readonly scheduler: Scheduler;
  readonly membership: Membership;
  readonly messenger: Messenger;
  readonly log?: (domain: string, event: DlmEvent) => void;
}

export interface DomainOptions {
  /** A member has died, told before anything of it is given to others. May be told twice for one death. */
  readonly evicted: (node: number) => void;
}

/** Key of a domain's messages: CRC-32 without its inversions (cluster-protocols.md 4.7). */
export function domainKey(name: string): number {
  return (crc32(Buffer.from(name, 'latin1'), 0xffff_ffff) ^ 0xffff_ffff) >>> 0;
}

type JoinType = typeof TYPE.QUERY_JOIN | typeof TYPE.ASSERT_JOINED | typeof TYPE.CANCEL_JOIN | typeof TYPE.QUERY_NODEINFO | typeof TYPE.QUERY_REGION;
type Handler<T extends MessageType> = (from: number, message: Message<T>) => number;

/** Registers a decoded handler that runs inside of a domain's loop, where there is one. `repeated`: see Messenger.handle. */
function register<T extends MessageType>(messenger: Messenger, key: number, type: T, handler: Handler<T>, coreOf: (message: Message<T>) => Core | undefined, repeated = false): () => void {
  return messenger.handle(key, type, MESSAGES[type].maxLength, (from, payload, reply) => {
    const message = decode(type, payload);
    const { node } = message as { readonly node?: number };
    if (node !== undefined && node !== from) throw malformed(MESSAGES[type].name, `node ${from} speaks for node ${node}`);
    const core = coreOf(message);
    if (core === undefined) reply(handler(from, message));
    else if (core.loop.stopped) reply('no-handler');
    else core.loop.enter(() => reply(handler(from, message)));
  }, repeated);
}

/** The lock manager of this node. One per messenger: it answers for all domains, those that are not here included. */
export class Dlm {
  readonly #domains = new Map<string, DlmDomain>();
  readonly #unregister: (() => void)[] = [];
  #cookie = 1n;

  constructor(readonly options: DlmOptions) {
    const { messenger, membership } = options;
    const coreOf = (message: unknown) => this.#domains.get((message as { readonly domain: string }).domain)?.core;
    const on = <T extends JoinType>(type: T, answer: (core: Core | undefined, from: number, message: Message<T>) => number) => {
      this.#unregister.push(register(messenger, DLM_MODULE_KEY, type, (from, message) => answer(coreOf(message), from, message), coreOf, true));
    };
    on(TYPE.QUERY_JOIN, (core, from, m) => answerQueryJoin(core, membership.live.has(from), from, m));
    on(TYPE.ASSERT_JOINED, (core, from) => answerAssertJoined(core, from));
    on(TYPE.CANCEL_JOIN, (core, from) => answerCancelJoin(core, from));
    on(TYPE.QUERY_NODEINFO, (core, from, m) => answerNodeInfo(core, from, m.nodes, options.nodes()));
    on(TYPE.QUERY_REGION, (core, from, m) => answerRegions(core, from, m.regions, options.regions()));
  }

  /** A domain of this node, not joined yet. `name`: the volume's UUID as 32 upper-case hex digits. */
  domain(name: string, options: DomainOptions): DlmDomain {
    if (this.#domains.has(name)) throw new InternalError('DLM_DOMAIN', `domain ${name} is here already`);
    const domain = new DlmDomain(this, name, options, () => this.#domains.delete(name));
    this.#domains.set(name, domain);
    return domain;
  }

  /** A number no other lock of this node has; the node's own in the highest byte. */
  nextCookie(): bigint {
    const cookie = (BigInt(this.options.membership.local) << 56n) | this.#cookie;
    this.#cookie = this.#cookie === 0xff_ffff_ffff_ffffn ? 1n : this.#cookie + 1n;
    return cookie;
  }

  /** No more joins are answered. All domains must have been left. */
  close(): void {
    for (const end of this.#unregister.splice(0)) end();
  }
}

export class DlmDomain {
  readonly core: Core;
  readonly #endings: (() => void)[] = [];
  #cancelPurge: (() => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  constructor(private readonly dlm: Dlm, readonly name: string, options: DomainOptions, private readonly gone: () => void) {
    const { scheduler, messenger, membership, log } = dlm.options;
    this.core = new Core(
      {
        local: membership.local, name, key: domainKey(name), scheduler, messenger, evicted: options.evicted,
        log: log && ((event) => log(name, event)), nextCookie: () => dlm.nextCookie(),
      },
      () => this.#idle(),
      (error) => this.fail(error instanceof Error ? error : new InternalError('DLM_FAILED', String(error))),
    );
  }

  /** Become a member. `done` gets the reason when this is not possible; then nothing is left of the attempt. */
  join(done: (error?: Error) => void): void {
    if (this.core.state !== 'new' || this.#endings.length > 0) throw new InternalError('DLM_STATE', `domain ${this.name} has been joined before`);
    this.#register();
    this.#run(done, this.#join());
  }

  /** Leave in good order; all locks must have ended. */
  leave(done: (error?: Error) => void): void {
    if (this.core.state !== 'joined' || this.core.clients.size > 0) {
      throw new InternalError('DLM_STATE', `domain ${this.name} is left while it is ${this.core.state} and has ${this.core.clients.size} locks`);
    }
    this.#run(done, this.#leave());
  }

  /** A new lock of this node; `name` is 1 to 32 bytes as latin-1 text. */
  lock(name: string, level: Level, events: LockEvents, options?: LockOptions): ClientLock {
    if (this.core.state !== 'joined') throw new ClusterError('DLM_NOT_JOINED', `domain ${this.name} is not joined`);
    return new ClientLock(this.core, name, level, events, options);
  }

  /** This node takes no more part: nothing is sent or answered any more, and all locks hear `error`. */
  fail(error: Error): void {
    if (this.core.state === 'left') return;
    this.#end();
    for (const client of [...this.core.clients]) client.fail(error);
    this.#failed?.(error);
  }

  inspect(): DomainView {
    return viewDomain(this.core);
  }

  *resources(): IterableIterator<ResourceView> {
    for (const res of this.core.resources.values()) yield viewResource(this.core, res);
  }

  #run(done: (error?: Error) => void, task: Task<Error | undefined>): void {
    this.#failed = done;
    const { core } = this;
    core.loop.spawn((function* (this: DlmDomain): Task {
      const error = yield* task;
      this.#failed = undefined;
      done(error);
    }).call(this));
  }

  *#join(): Task<Error | undefined> {
    const { core } = this;
    const error = yield* join(core, this.dlm.options, this.dlm.options.membership.live);
    if (error !== undefined) this.#end();
    else {
      core.log({ what: 'joined', node: core.local });
      core.loop.spawn(recoveryTask(core));
    }
    return error;
  }

  *#leave(): Task<Error | undefined> {
    this.core.log({ what: 'leaving', node: this.core.local });
    yield* leave(this.core);
    this.core.log({ what: 'left', node: this.core.local });
    this.#end();
    return undefined;
  }

  #end(): void {
    this.core.state = 'left';
    this.#cancelPurge?.();
    for (const end of this.#endings.splice(0)) end();
    this.core.loop.stop();
    this.gone();
  }

  /** After each event: ASTs and BASTs, then what nobody uses. */
  #idle(): void {
    schedule(this.core);
    const due = purgeUnused(this.core);
    if (due === undefined || this.#cancelPurge !== undefined) return;
    this.#cancelPurge = this.core.loop.after(due, () => {
      this.#cancelPurge = undefined;
    });
  }

  #register(): void {
    const { core } = this;
    const { messenger, membership } = this.dlm.options;
    const on = <T extends MessageType>(type: T, handler: Handler<T>) => {
      this.#endings.push(register(messenger, core.options.key, type, handler, () => core));
    };
    on(TYPE.MASTER_REQUEST, (from, m) => handleMasterRequest(core, from, m));
    on(TYPE.ASSERT_MASTER, (from, m) => handleAssert(core, from, m));
    on(TYPE.CREATE_LOCK, (from, m) => handleCreate(core, from, m));
    on(TYPE.CONVERT_LOCK, (from, m) => handleConvert(core, from, m));
    on(TYPE.UNLOCK_LOCK, (from, m) => handleUnlock(core, from, m));
    on(TYPE.PROXY_AST, (_, m) => handleProxyAst(core, m));
    on(TYPE.DEREF_LOCKRES, (from, m) => handleDeref(core, from, m));
    on(TYPE.DEREF_LOCKRES_DONE, (_, m) => handleDerefDone(core, m));
    on(TYPE.MIGRATE_REQUEST, (from, m) => handleMigrateRequest(core, from, m));
    on(TYPE.MIG_LOCKRES, (from, m) => handleMigLockres(core, from, m));
    on(TYPE.MASTER_REQUERY, (_, m) => handleRequery(core, m));
    on(TYPE.LOCK_REQUEST, (from, m) => handleLockRequest(core, from, m));
    on(TYPE.RECO_DATA_DONE, (from, m) => handleDataDone(core, from, m));
    on(TYPE.BEGIN_RECO, (from, m) => handleBeginReco(core, from, m));
    on(TYPE.FINALIZE_RECO, (from, m) => handleFinalize(core, from, m));
    on(TYPE.BEGIN_EXIT_DOMAIN, (from) => handleBeginExit(core, from));
    on(TYPE.EXIT_DOMAIN, (from) => handleExit(core, from));
    this.#endings.push(membership.subscribe(ORDER_DLM, {
      nodeUp: (node) => core.loop.enter(() => {
        core.live.add(node);
      }),
      nodeDown: (node) => core.loop.enter(() => {
        if (node === core.local) return;
        // First the file system, then the locks: nothing of the dead node may be had before it knows.
        if (core.domain.has(node)) core.options.evicted(node);
        nodeDown(core, node);
      }),
    }));
  }
}
