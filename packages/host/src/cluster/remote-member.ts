/**
 * Membership and messenger as the volume process has them: lunfsd's own, over the link. The lock manager's domain stands on it as it
 * would in lunfsd's process; the order of all events is the order of the frames, which is that of lunfsd's main thread.
 *
 * When lunfsd dies no event follows: requests stay open, nobody is reported dead. The fence's deadline then lapses, and the process
 * ends with it.
 */
import { InternalError } from '@lunfs/device';
import { type MembershipListener, type Membership, type MessageHandler, type Messenger, NodeMap, type RequestResult, Suspects } from '@lunfs/o2cb';
import { type Frame, KIND, RESULTS } from './frames.js';
import type { Joining } from './joining.js';
import type { Link } from './link.js';

interface Subscription {
  readonly order: number;
  readonly listener: MembershipListener;
}

export class RemoteMember implements Membership, Messenger {
  readonly local: number;
  readonly live: NodeMap;
  readonly suspicion: Suspects;
  #subscriptions: readonly Subscription[] = [];
  readonly #requests = new Map<number, (result: RequestResult) => void>();
  readonly #handlers = new Map<number, MessageHandler>();
  #nextRequest = 0;
  #nextHandler = 0;

  constructor({ node, live, suspects }: Pick<Joining, 'node' | 'live' | 'suspects'>, private readonly link: Link) {
    this.local = node;
    this.live = new NodeMap(live);
    this.suspicion = new Suspects(suspects);
  }

  subscribe(order: number, listener: MembershipListener): () => void {
    const mine: Subscription = { order, listener };
    this.#subscriptions = [...this.#subscriptions, mine].sort((a, b) => a.order - b.order);
    return () => {
      this.#subscriptions = this.#subscriptions.filter((one) => one !== mine);
    };
  }

  request(node: number, type: number, key: number, payload: Uint8Array, done: (result: RequestResult) => void): void {
    do this.#nextRequest = (this.#nextRequest + 1) >>> 0;
    while (this.#requests.has(this.#nextRequest));
    this.#requests.set(this.#nextRequest, done);
    this.link.send(KIND.request, { id: this.#nextRequest, node, type, key, payload });
  }

  handle(key: number, type: number, maxLength: number, handler: MessageHandler): () => void {
    const id = ++this.#nextHandler;
    this.#handlers.set(id, handler);
    this.link.send(KIND.handle, { id, type, key, value: maxLength });
    return () => {
      if (this.#handlers.delete(id)) this.link.send(KIND.unhandle, { id });
    };
  }

  /** A frame of lunfsd. False: it is not for this room. */
  receive(frame: Frame): boolean {
    switch (frame.kind) {
      case KIND.result:
        this.#answered(frame);
        return true;
      case KIND.deliver:
        this.#delivered(frame);
        return true;
      case KIND.nodeUp:
      case KIND.nodeDown:
        this.#changed(frame);
        return true;
      case KIND.suspects:
        this.suspicion.suspect(NodeMap.fromBytes(frame.payload));
        return true;
      default:
        return false;
    }
  }

  #answered({ id, node, value }: Frame): void {
    const done = this.#requests.get(id);
    if (done === undefined) throw new InternalError('LINK_RESULT', `lunfsd answers request ${id}, which is not under way`);
    this.#requests.delete(id);
    const how = RESULTS[node];
    done(how === 'status' ? { status: value } : { error: how });
  }

  #delivered({ id, node, key, payload }: Frame): void {
    // A handler that has ended: lunfsd answers for it.
    this.#handlers.get(key)?.(node, payload, (status) => {
      this.link.send(KIND.reply, status === 'no-handler' ? { id, node: 1 } : { id, value: status });
    });
  }

  #changed({ kind, node, payload }: Frame): void {
    const now = NodeMap.fromBytes(payload);
    this.live.clear();
    for (const one of now) this.live.add(one);
    for (const { listener } of this.#subscriptions) {
      if (kind === KIND.nodeUp) listener.nodeUp(node);
      else listener.nodeDown(node);
    }
  }
}
