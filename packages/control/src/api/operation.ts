/**
 * One way to declare an operation of the API: method, path, role, schemas, and what it does. Reading operations get the database; changing ones a
 * transaction, so that what they change, the event of it and the answer under the idempotency key are one. Validation, OpenAPI document and tests all
 * come from the declaration.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Static, TSchema } from 'typebox';
import type { Actor } from '../auth/actor.js';
import { actorOf } from '../auth/actor.js';
import { type Role, mayAs } from '../auth/roles.js';
import type { OpenedDatabase } from '../db/open.js';
import type { Db, Trx } from '../db/schema.js';
import type { Events, NewEvent } from '../events.js';
import { KEY_SHAPE, KeyedRequest } from '../idempotency.js';
import { Problem, ProblemDocument } from '../problems.js';

export interface Declaration<P extends TSchema, Q extends TSchema, B extends TSchema, A extends TSchema> {
  readonly id: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below /api/v1. */
  readonly path: string;
  readonly summary: string;
  readonly tag: string;
  readonly role: Role | 'anyone';
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly answer: A;
  /** Default 200. */
  readonly status?: number;
}

interface Asked<P extends TSchema, Q extends TSchema, B extends TSchema> {
  readonly params: Static<P>;
  readonly query: Static<Q>;
  readonly body: Static<B>;
}

export interface Reading<P extends TSchema, Q extends TSchema, B extends TSchema> extends Asked<P, Q, B> {
  readonly db: Db;
  readonly actor: Actor;
}

export interface Changing<P extends TSchema, Q extends TSchema, B extends TSchema, R> extends Asked<P, Q, B> {
  readonly trx: Trx;
  readonly actor: Actor;
  /** What was prepared outside of the transaction. */
  readonly ready: R;
  /** Told as the last thing of the transaction. */
  tell(event: Omit<NewEvent, 'user'>): void;
}

interface World {
  readonly database: OpenedDatabase;
  readonly events: Events;
  /** Something was committed: tasks may have to begin. */
  readonly committed: () => void;
}

/** Who was admitted, before the request was validated. */
const admitted = new WeakMap<FastifyRequest, Actor>();

const NOBODY: Actor = { id: '', name: '', role: 'viewer', tokenId: '' };

export class Api {
  constructor(private readonly app: FastifyInstance, private readonly world: World) {}

  read<P extends TSchema, Q extends TSchema, B extends TSchema, A extends TSchema>(declared: Declaration<P, Q, B, A>, work: (ask: Reading<P, Q, B>) => Promise<Static<A>>): void {
    this.#route(declared, async (request) => {
      const actor = admitted.get(request) ?? NOBODY;
      return { body: await work({ ...asked<P, Q, B>(request), db: this.world.database.db, actor }) };
    });
  }

  change<P extends TSchema, Q extends TSchema, B extends TSchema, A extends TSchema>(declared: Declaration<P, Q, B, A>, work: (ask: Changing<P, Q, B, undefined>) => Promise<Static<A>>): void {
    this.changeAfter(declared, undefined, work);
  }

  /** `prepare`: what takes time or must not be done twice (hashing, asking a host) and changes nothing. */
  changeAfter<P extends TSchema, Q extends TSchema, B extends TSchema, A extends TSchema, R>(
    declared: Declaration<P, Q, B, A>, prepare: ((ask: Reading<P, Q, B>) => Promise<R>) | undefined, work: (ask: Changing<P, Q, B, R>) => Promise<Static<A>>,
  ): void {
    this.#route(declared, async (request) => {
      const actor = admitted.get(request) ?? NOBODY;
      const given = asked<P, Q, B>(request);
      const key = request.headers['idempotency-key'] as string | undefined;
      const keyed = key === undefined ? undefined : new KeyedRequest(actor.id, key, request.method, request.url, request.body);
      const { database } = this.world;
      if (keyed !== undefined && prepare !== undefined) {
        const first = await database.change((trx) => keyed.replayed(trx));
        if (first !== undefined) return { ...first, replayed: true };
      }
      const ready = (await prepare?.({ ...given, db: database.db, actor })) as R;
      const result = await database.change(async (trx) => {
        const first = await keyed?.replayed(trx);
        if (first !== undefined) return { ...first, replayed: true };
        const told: Omit<NewEvent, 'user'>[] = [];
        const body = await work({ ...given, trx, actor, ready, tell: (event) => void told.push(event) });
        await keyed?.keep(trx, { status: declared.status ?? 200, body });
        for (const event of told) await this.world.events.append(trx, { ...event, user: actor.name === '' ? undefined : actor.name });
        return { body };
      });
      this.world.events.wake();
      this.world.committed();
      return result;
    });
  }

  /** A stream: who asks is admitted, the rest is the handler's. */
  stream<P extends TSchema, Q extends TSchema, B extends TSchema, A extends TSchema>(declared: Declaration<P, Q, B, A>, type: string, work: (ask: Reading<P, Q, B>, request: FastifyRequest, reply: FastifyReply) => Promise<void>): void {
    this.#route(declared, async (request, reply) => {
      const actor = admitted.get(request) ?? NOBODY;
      await work({ ...asked<P, Q, B>(request), db: this.world.database.db, actor }, request, reply);
      return undefined;
    }, type);
  }

  async #admit(role: Role | 'anyone', request: FastifyRequest): Promise<Actor> {
    if (role === 'anyone') return NOBODY;
    const actor = await actorOf(this.world.database.db, request.headers.authorization);
    if (!mayAs(actor.role, role)) throw new Problem('FORBIDDEN', `${actor.name} is ${actor.role} here; this needs the role ${role}`);
    return actor;
  }

  #route(declared: Declaration<TSchema, TSchema, TSchema, TSchema>, work: (request: FastifyRequest, reply: FastifyReply) => Promise<{ body: unknown; replayed?: boolean } | undefined>, stream?: string): void {
    const { id, method, path, summary, tag, role, params, query, body, answer, status = 200 } = declared;
    const changes = method !== 'GET';
    this.app.route({
      method, url: `/api/v1${path}`,
      schema: {
        operationId: id, summary, tags: [tag], description: role === 'anyone' ? 'Needs no token.' : `Needs the role ${role}.`,
        ...(role === 'anyone' ? { security: [] } : {}), ...(params ? { params } : {}), ...(query ? { querystring: query } : {}), ...(body ? { body } : {}),
        ...(changes ? { headers: { type: 'object', properties: { 'idempotency-key': { type: 'string', pattern: KEY_SHAPE, description: 'Asked again with the same key within a day, the first answer is given again and nothing is done.' } } } } : {}),
        response: stream === undefined ? { [status]: answer, default: { description: 'Refused', content: { 'application/problem+json': { schema: ProblemDocument } } } }
          : { [status]: { description: summary, content: { [stream]: { schema: answer } } }, default: { description: 'Refused', content: { 'application/problem+json': { schema: ProblemDocument } } } },
        'x-lunfs-role': role,
      } as object,
      // Who asks is known before his body is judged: nobody learns from errors what he may not ask.
      preValidation: async (request) => void admitted.set(request, await this.#admit(role, request)),
      handler: async (request, reply) => {
        const done = await work(request, reply);
        if (done === undefined) return reply;
        if (done.replayed) void reply.header('idempotency-replayed', 'true');
        return reply.code(status).send(done.body);
      },
    });
  }
}

function asked<P extends TSchema, Q extends TSchema, B extends TSchema>(request: FastifyRequest): Asked<P, Q, B> {
  return { params: request.params as Static<P>, query: request.query as Static<Q>, body: request.body as Static<B> };
}
