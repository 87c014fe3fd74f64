/**
 * A connection that carried a conversation was lost, and the node beats on: what was under way in either direction may have been handled or
 * not, and nobody will say it again. Linux's o2net lets each request fail and its o2dlm sends some of them anew, though the node that it
 * took for down lives; a grant, or the wish to have a lock back, is lost for ever, and a recovery master goes on without the locks of who
 * cannot be reached. So (where we are one of the two):
 *
 * - a request ends as `host-down` when its node is down, never before. Until then what was asked stays open, and what is asked now is not sent;
 * - when the connection stands again, one of the two nodes must begin anew, so that the other forgets what it knew of it: death is what
 *   all lock managers agree about. A kernel node does not, so we do; of two lunfs nodes that both have lost something the one with the higher
 *   number. The verdict waits for two beats: a new incarnation of the other may be connected before its first beat has been read.
 *
 * A message that nobody here takes is no part of a conversation: its sender hears that it was refused or that it was lost, which is the same to it. Whoever has asked our last
 * incarnation something asks the new one as soon as it is connected, and drops that connection when it notices the death.
 *
 * What the other is it says itself: lunfs nodes answer a message for which a kernel has no handler (Linux 6.1
 * fs/ocfs2/cluster/tcp.c:o2net_process_message: a status with O2NET_ERR_NO_HNDLR, nothing else). One that has lost nothing is as a rule a
 * new incarnation which does not beat yet: its death is noticed within the time of a death, and only if it is not must we begin anew.
 */
import { HEARTBEAT_MS, type Timeouts } from '../config/index.js';
import type { RequestResult, Scheduler } from '../ports.js';

/** The message by which lunfs nodes ask each other, without a payload. */
export const LUNFS_KEY = 0x6c756e66;
export const LUNFS_TYPE = 1;
/** Its status: whether the node that answers has lost something, too. */
export const LOST_TOO = 0;
export const LOST_NOTHING = 1;

export type Verdict = 'we' | 'they';

export class Severance {
  #severed = false;
  readonly #open: (() => void)[] = [];
  #cancel: (() => void) | undefined;

  /** `higher`: the other has the higher number. */
  constructor(private readonly scheduler: Scheduler, private readonly times: Timeouts, private readonly higher: boolean) {}

  /** Nothing is sent to the node any more until it has been down. */
  get severed(): boolean {
    return this.#severed;
  }

  /** A connection was lost. `conversed`: it carried the conversation; else only the one that was restored is gone again. */
  lost(conversed: boolean): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#severed ||= conversed;
  }

  /** A request whose end is known when the node is down. */
  hold(done: (result: RequestResult) => void, error: 'host-down' | 'not-connected'): void {
    this.#open.push(() => done({ error }));
  }

  /** A connection stands again. `ask`: what has it lost? `decide` is called unless the node turns out to be down, or the connection is lost again. */
  restored(ask: (answer: (result: RequestResult) => void) => void, decide: (verdict: Verdict) => void): void {
    let status: number | undefined;
    ask((result) => {
      if ('status' in result) ({ status } = result);
    });
    this.#cancel = this.scheduler.after(2 * HEARTBEAT_MS, () => {
      if (status === LOST_TOO) decide(this.higher ? 'they' : 'we');
      else if (status === undefined) decide('we');
      else this.#cancel = this.scheduler.after(this.times.deadMs, () => decide('we'));
    });
  }

  /** The node is down: what was open has ended. */
  end(): void {
    this.lost(false);
    this.#severed = false;
    for (const done of this.#open.splice(0)) done();
  }
}
