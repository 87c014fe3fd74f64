/**
 * lunfsd's end of a link: the node's messenger and membership for one volume process, `RemoteMember`'s counterpart.
 *
 * When the process dies its handlers go, and what was delivered to it is never answered: its peers wait until they learn that the
 * node is down, as with a kernel node that crashed. To say "no handler" then would tell them that the domain was left.
 */
import { type Membership, type Messenger, NodeMap, ORDER_DLM, type RequestResult, type Suspicion } from '@lunfs/o2cb';
import { type Frame, KIND, RESULTS } from './frames.js';
import { DLM_MOD_KEY, type JoinRouter } from './join-router.js';
import type { Link } from './link.js';

type Reply = (status: number | 'no-handler') => void;

interface Served {
  readonly end: () => void;
  /** Deliveries not yet replied to. */
  readonly open: Map<number, Reply>;
}

/** What lunfsd is a member by. */
export interface Member {
  readonly membership: Membership;
  readonly suspicion: Suspicion;
  readonly messenger: Messenger;
  readonly joins: JoinRouter;
}

export class MemberServer {
  readonly #handlers = new Map<number, Served>();
  readonly #deliveries = new Map<number, Served>();
  readonly #unsubscribe: readonly (() => void)[];
  #nextDelivery = 0;
  #closed = false;

  /** `domain`: whose messages about joining are this process's. */
  constructor(private readonly link: Link, private readonly member: Member, private readonly domain: string) {
    const changed = (kind: number, node: number): void => link.send(kind, { node, payload: new NodeMap(member.membership.live).toBytes() });
    this.#unsubscribe = [
      member.membership.subscribe(ORDER_DLM, {
        nodeUp: (node) => changed(KIND.nodeUp, node),
        nodeDown: (node) => changed(KIND.nodeDown, node),
      }),
      member.suspicion.onSuspicion(() => link.send(KIND.suspects, { payload: member.suspicion.suspects.toBytes() })),
    ];
  }

  /** A frame of the process. False: it is not for this room. */
  receive(frame: Frame): boolean {
    const { id } = frame;
    switch (frame.kind) {
      case KIND.request:
        this.member.messenger.request(frame.node, frame.type, frame.key, frame.payload, (result) => this.#done(id, result));
        return true;
      case KIND.handle:
        this.#handle(frame);
        return true;
      case KIND.unhandle:
        this.#unhandle(id);
        return true;
      case KIND.reply: {
        const served = this.#deliveries.get(id);
        this.#deliveries.delete(id);
        const reply = served?.open.get(id);
        served?.open.delete(id);
        reply?.(frame.node === 1 ? 'no-handler' : frame.value);
        return true;
      }
      default:
        return false;
    }
  }

  /** The process has ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#unsubscribe) end();
    for (const { end } of this.#handlers.values()) end();
    this.#handlers.clear();
  }

  #done(id: number, result: RequestResult): void {
    if ('status' in result) this.link.send(KIND.result, { id, value: result.status });
    else this.link.send(KIND.result, { id, node: RESULTS.indexOf(result.error) });
  }

  #handle({ id, type, key, value }: Frame): void {
    const open = new Map<number, Reply>();
    const deliver = (from: number, payload: Uint8Array, reply: Reply): void => {
      do this.#nextDelivery = (this.#nextDelivery + 1) >>> 0;
      while (this.#deliveries.has(this.#nextDelivery));
      open.set(this.#nextDelivery, reply);
      this.#deliveries.set(this.#nextDelivery, served);
      this.link.send(KIND.deliver, { id: this.#nextDelivery, node: from, type, key: id, payload });
    };
    const { joins, messenger } = this.member;
    const served: Served = { open, end: key === DLM_MOD_KEY ? joins.handle(this.domain, type, deliver) : messenger.handle(key, type, value, deliver) };
    this.#handlers.set(id, served);
  }

  #unhandle(id: number): void {
    const served = this.#handlers.get(id);
    if (served === undefined) return;
    this.#handlers.delete(id);
    served.end();
    for (const [delivery, reply] of served.open) {
      this.#deliveries.delete(delivery);
      reply('no-handler');
    }
  }
}
