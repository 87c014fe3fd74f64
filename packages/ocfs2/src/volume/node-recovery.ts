/**
 * Recovery of other nodes' slots in a living cluster, and the super lock under which slots change hands
 * (cluster-protocols.md 7.4, 9; Linux 6.1 fs/ocfs2/journal.c:__ocfs2_recovery_thread).
 *
 * From the moment a node's death is known, or may be known to another member (`suspects`), until somebody has replayed its journal, the gate is shut: locks granted
 * meanwhile are not used (`gated`), for blocks in place may be older than the dead node's log. Every survivor then asks for
 * the super lock; the first to get it recovers, the others find the slot free. Under the super lock, in this order:
 *  1. the journal's meta lock, which its owner holds for as long as it lives. If it cannot be had at once and the recovery
 *     generation has changed, or the node lives (again), somebody else has dealt with it;
 *  2. replay, everything flushed; the journal marked clean, its recovery generation raised. This for all dead nodes before the
 *     next: one that died while it recovered another one may have in its log alone that it took over what the other owed;
 *  3. what the node owed the global bitmap taken over (alloc/take-over.ts) and our log flushed, because
 *     the next owner of the slot reads those files without asking us;
 *  4. the slot freed in the slot map. Only now may a crash of ours forget the dead node.
 * Then the gate opens and the super lock goes. What needs locks that others may hold follows: clusters freed, local quota
 * files merged, orphans wiped. A crash of ours in there leaks nothing: what is left is in our own truncate log, in a local
 * quota file that is not clean, in an orphan directory.
 *
 * Nothing under the super lock waits for a lock that another node might hold while it waits for us at its gate: of the
 * cluster's locks only the dead node's journal is taken.
 */
import { LunfsError } from '@lunfs/device';
import { type ClusterRun, freeTakenOver, takeOverClusters } from '../alloc/index.js';
import type { FsContext, SystemFiles } from '../context.js';
import type { RawReader } from '../inspect/raw-reader.js';
import { JournalInode, replayJournal } from '../journal/index.js';
import { EX, type LockManager, SUPER_LOCK, isPrivate, lockName } from '../locking/index.js';
import type { ClusterMember } from './cluster-member.js';
import type { RecoveredSlot } from './recovery.js';
import { relearnSize } from './size.js';
import { SlotMap } from './slot-map.js';

/** A slot whose journal is replayed: what is left to do once the gate is open. */
export interface TakenOver extends RecoveredSlot {
  readonly node: number;
  /** Clusters that found no place in our truncate log. */
  readonly clusters: readonly ClusterRun[];
}

/** A dead node's slot after its journal was replayed; we hold the journal's lock. */
interface ReplayedSlot {
  readonly node: number;
  readonly slot: number;
  readonly blocks: number;
  readonly lock: string;
}

export interface NodeRecoveryOptions {
  readonly reader: RawReader;
  readonly sys: SystemFiles;
  readonly member: Pick<ClusterMember, 'node' | 'live' | 'suspects'>;
  readonly locks: LockManager;
  /** What is done for a recovered slot when locks may be waited for again. Its errors are its own. */
  readonly finish: (slot: TakenOver) => Promise<void>;
  /** A dead node cannot be recovered here: this node has to leave the cluster. */
  readonly onFailure: (error: unknown) => void;
}

export class NodeRecovery {
  readonly #dead = new Set<number>();
  readonly #journals: ReadonlySet<string>;
  /** Recovery generation of each slot's journal as last read under the super lock. */
  #generations: number[] = [];
  #ctx: FsContext | undefined;
  #super: Promise<unknown> = Promise.resolve();
  #running: Promise<void> | undefined;
  #finishing: Promise<void> = Promise.resolve();
  #unfinished = 0;
  #stopped = false;
  readonly #recovered: RecoveredSlot[] = [];

  constructor(private readonly options: NodeRecoveryOptions) {
    const { reader, sys } = options;
    this.#journals = new Set(sys.journal.map((blkno) => lockName('M', blkno, reader.geo.fsGeneration)));
  }

  /** Nodes whose death is not dealt with. */
  get dead(): readonly number[] {
    return [...this.#dead];
  }

  /** Slots recovered since the mount. */
  get recovered(): readonly RecoveredSlot[] {
    return this.#recovered;
  }

  /** Must a lock that is granted now wait? Those that protect blocks must; recovery's own must not. */
  gated(name: string): boolean {
    const suspects = this.options.member.suspects();
    if ((this.#dead.size === 0 && !suspects) || isPrivate(name)) return false;
    // Recovery has to know of all who are dead, too: of one that it does not know the log would be replayed too late.
    if (name === SUPER_LOCK || this.#journals.has(name)) return suspects;
    return name.startsWith('M') || name.startsWith('T') || name.startsWith('Q');
  }

  /** A member has died. */
  died(node: number): void {
    if (this.#stopped || node === this.options.member.node) return;
    this.#dead.add(node);
    this.#start();
  }

  /** Recovery can begin: there is an engine to do it with. */
  begin(ctx: FsContext): void {
    this.#ctx = ctx;
    this.#start();
  }

  /** Every death known so far is dealt with: the gate is open. Rejects if one cannot be. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** What those deaths have left to do is done, too. */
  async finished(): Promise<void> {
    await this.settled();
    await this.#finishing;
  }

  /**
   * The node is leaving: no recovery any more. `last` is the last work that needs locks; it is done again if a node dies
   * meanwhile, for it may have been before what recovery left to be done.
   */
  async stop(last: () => Promise<void>): Promise<void> {
    do {
      await this.finished();
      await last();
    } while (this.#dead.size > 0 || this.#unfinished > 0);
    this.#stopped = true;
  }

  /** Run `work` under the super lock; one at a time in this process too, for which locks of one node do not care. */
  underSuper<T>(work: () => Promise<T>): Promise<T> {
    const { locks } = this.options;
    const run = async (): Promise<T> => {
      await locks.hold(SUPER_LOCK, EX);
      try {
        return await work();
      } finally {
        locks.drop(SUPER_LOCK, EX);
      }
    };
    const result = this.#super.then(run);
    this.#super = result.catch(() => undefined);
    return result;
  }

  /**
   * At mount, under the super lock: whose slots belong to dead nodes. A node that lives holds the meta lock of its journal
   * (Linux 6.1 fs/ocfs2/journal.c:ocfs2_mark_dead_nodes).
   */
  async markDead(slotMap: SlotMap): Promise<void> {
    const { locks, member, sys } = this.options;
    await this.#readGenerations();
    for (const { slot, node } of slotMap.taken()) {
      if (node === member.node || this.#dead.has(node)) continue;
      const journal = this.#journalLock(sys.journal[slot]);
      const dead = await locks.tryLock(journal, EX);
      if (dead) locks.drop(journal, EX);
      // Not kept: who mounts before the slot is recovered would take its owner for alive, and read what is yet to be replayed.
      await locks.surrender(journal);
      if (dead) this.#dead.add(node);
    }
  }

  #journalLock(blkno: number): string {
    return lockName('M', blkno, this.options.reader.geo.fsGeneration);
  }

  async #readGenerations(): Promise<void> {
    const { reader, sys } = this.options;
    this.#generations = [];
    for (const blkno of sys.journal) this.#generations.push((await JournalInode.read(reader, blkno)).recoveryGeneration);
  }

  #start(): void {
    const ctx = this.#ctx;
    if (ctx === undefined || this.#running !== undefined || this.#dead.size === 0 || this.#stopped) return;
    this.#running = this.#recover(ctx).then(
      () => {
        this.#running = undefined;
      },
      (error: unknown) => {
        // The gate stays shut.
        this.options.onFailure(error);
        throw error as Error;
      },
    );
    this.#running.catch(() => undefined); // told
  }

  async #recover(ctx: FsContext): Promise<void> {
    while (this.#dead.size > 0) {
      const done = await this.underSuper(() => this.#recoverDead(ctx));
      for (const slot of done) {
        this.#recovered.push(slot);
        this.#unfinished++;
        this.#finishing = this.#finishing.then(() => this.#finish(ctx, slot));
      }
    }
  }

  /** Steps 1 to 4 for every dead node, under the super lock. */
  async #recoverDead(ctx: FsContext): Promise<TakenOver[]> {
    const { reader, sys, locks } = this.options;
    const slotMap = await SlotMap.read(reader, sys.slotMap);
    // A dead node may have grown the volume, or used what another had added: blocks in its log lie there.
    await relearnSize(ctx);
    const nodes: number[] = [], replayed: ReplayedSlot[] = [], taken: TakenOver[] = [];
    try {
      for (const node of this.#dead) {
        nodes.push(node);
        for (const { slot } of slotMap.taken().filter((entry) => entry.node === node)) {
          const found = await this.#replaySlot(node, slot);
          if (found !== undefined) replayed.push(found);
        }
      }
      for (const found of replayed) taken.push(await this.#takeOver(ctx, slotMap, found));
    } finally {
      for (const { lock } of replayed) locks.drop(lock, EX);
      await Promise.all(replayed.map(({ lock }) => locks.surrender(lock)));
    }
    for (const node of nodes) this.#dead.delete(node);
    await this.#readGenerations();
    locks.gateOpened();
    return taken;
  }

  /** What is left to do once the gate is open. Never rejects: the engine has dealt with errors, and what is left is found again (head). */
  async #finish(ctx: FsContext, slot: TakenOver): Promise<void> {
    try {
      await freeTakenOver(ctx, slot.clusters);
      await this.options.finish(slot);
    } catch (error) {
      if (!(error instanceof LunfsError)) throw error;
    } finally {
      this.#unfinished--;
    }
  }

  /** Steps 1 and 2; the journal's lock stays held. Undefined: somebody else has, or the node lives again. */
  async #replaySlot(node: number, slot: number): Promise<ReplayedSlot | undefined> {
    const { reader, sys, locks, member } = this.options;
    const lock = this.#journalLock(sys.journal[slot]);
    if (!(await locks.tryLock(lock, EX))) {
      const { recoveryGeneration } = await JournalInode.read(reader, sys.journal[slot]);
      if (recoveryGeneration !== this.#generations[slot] || member.live().includes(node)) return undefined;
      await locks.hold(lock, EX);
    }
    try {
      const journal = await JournalInode.read(reader, sys.journal[slot]);
      let blocks = 0;
      if (journal.dirty) {
        blocks = (await replayJournal(reader.device, reader.geo, journal.map)).replayed;
        await journal.markClean(true);
      }
      return { node, slot, blocks, lock };
    } catch (error) {
      locks.drop(lock, EX);
      await locks.surrender(lock);
      throw error;
    }
  }

  /** Steps 3 and 4. */
  async #takeOver(ctx: FsContext, slotMap: SlotMap, { node, slot, blocks }: ReplayedSlot): Promise<TakenOver> {
    const { reader, sys, locks } = this.options;
    const clusters = await takeOverClusters(ctx, slot);
    await ctx.engine.log.flush();
    await Promise.all([sys.localAlloc[slot], sys.truncateLog[slot]].map((blkno) => locks.surrender(ctx.metaLockName(blkno))));
    await slotMap.set(reader.device, slot, undefined);
    return { node, slot, blocks, clusters };
  }
}
