/**
 * Messages about joining a domain: one key for all domains of a node (DLM_MOD_KEY, cluster-protocols.md 4.7), which the kernel's lock
 * manager answers from the moment it is loaded. Here each domain lives in a volume process of its own; what is for one of them goes to
 * it by the domain's name in the message, and for a domain that nobody has here the answer is what the kernel gives (Linux 6.1
 * fs/ocfs2/dlm/dlmdomain.c).
 */
import { InternalError } from '@lunfs/device';
import type { Membership, MessageHandler, Messenger } from '@lunfs/o2cb';

export const DLM_MOD_KEY = 0x666c6172;

interface JoinMessage {
  readonly type: number;
  readonly maxLength: number;
  /** Where length and text of the domain's name are. */
  readonly nameLength: number;
  readonly name: number;
  /** The answer of a node that does not have the domain. */
  readonly unknown: number;
}

const EINVAL = 22;
/** Codes of QUERY_JOIN's answer, in its first byte. */
const DISALLOW = 0;
const OK_NO_MAP = 2;
const joinCode = (code: number): number => code << 24;

const QUERY_JOIN = 510;
const MESSAGES: readonly JoinMessage[] = [
  { type: QUERY_JOIN, maxLength: 104, nameLength: 3, name: 8, unknown: joinCode(OK_NO_MAP) },
  { type: 511, maxLength: 68, nameLength: 3, name: 4, unknown: 0 }, // ASSERT_JOINED
  { type: 512, maxLength: 68, nameLength: 3, name: 4, unknown: 0 }, // CANCEL_JOIN
  { type: 519, maxLength: 1092, nameLength: 2, name: 4, unknown: -EINVAL }, // QUERY_REGION
  { type: 520, maxLength: 2108, nameLength: 2, name: 4, unknown: -EINVAL }, // QUERY_NODEINFO
];

export class JoinRouter {
  /** By domain and type. */
  readonly #handlers = new Map<string, MessageHandler>();
  readonly #ends: (() => void)[];

  constructor(messenger: Messenger, private readonly membership: Membership) {
    this.#ends = MESSAGES.map((message) => messenger.handle(DLM_MOD_KEY, message.type, message.maxLength, (from, payload, reply) => this.#route(message, from, payload, reply), true));
  }

  /** Messages of the type that name this domain. Returns what ends it. */
  handle(domain: string, type: number, handler: MessageHandler): () => void {
    if (!MESSAGES.some((message) => message.type === type)) throw new InternalError('JOIN_MESSAGE', `${type} is no message about joining a domain`, { type });
    const key = `${type} ${domain}`;
    this.#handlers.set(key, handler);
    return () => {
      if (this.#handlers.get(key) === handler) this.#handlers.delete(key);
    };
  }

  close(): void {
    for (const end of this.#ends) end();
  }

  #route({ type, nameLength, name, unknown }: JoinMessage, from: number, payload: Uint8Array, reply: Parameters<MessageHandler>[2]): void {
    const length = payload[nameLength] ?? 0;
    const domain = Buffer.from(payload.subarray(name, name + length)).toString('latin1');
    const handler = this.#handlers.get(`${type} ${domain}`);
    if (handler !== undefined) handler(from, payload, reply);
    else reply(type === QUERY_JOIN && !this.membership.live.has(from) ? joinCode(DISALLOW) : unknown);
  }
}
