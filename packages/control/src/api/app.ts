/** The HTTPS server: operations, the document that describes them, health, metrics, and what a refusal looks like. */
import swagger from '@fastify/swagger';
import Fastify, { type FastifyBaseLogger, type FastifyError, type FastifyInstance } from 'fastify';
import type { OpenedDatabase } from '../db/open.js';
import type { Events } from '../events.js';
import type { Identity } from '../hosts/authority.js';
import { Metrics } from '../metrics.js';
import { Problem } from '../problems.js';
import { actorOf } from '../auth/actor.js';
import { eventOperations } from './events.js';
import { Api } from './operation.js';
import { taskOperations } from './tasks.js';
import { sessionOperations, tokenOperations, userOperations } from './users.js';

export interface AppOptions {
  readonly database: OpenedDatabase;
  readonly events: Events;
  readonly identity: Identity;
  readonly version: string;
  readonly log: FastifyBaseLogger;
  readonly closing: AbortSignal;
  readonly committed: () => void;
  /** What it waits for; undefined: ready. */
  readonly waitsFor: () => string | undefined;
  /** Operations of more rooms. */
  readonly more: (api: Api) => void;
}

const BODY_MAX = 1 << 20;

export async function buildApp(options: AppOptions): Promise<FastifyInstance> {
  const { database, events, identity, version, log, closing, committed, waitsFor, more } = options;
  const app = Fastify({
    https: { cert: identity.certificate, key: identity.key, minVersion: 'TLSv1.2' }, loggerInstance: log, bodyLimit: BODY_MAX, forceCloseConnections: true, exposeHeadRoutes: false,
    // What does not fit is refused, never bent until it does; strings of a query are read as numbers where numbers are asked for.
    ajv: { customOptions: { removeAdditional: false, coerceTypes: true, allErrors: true, useDefaults: true } },
    disableRequestLogging: true,
  }) as unknown as FastifyInstance;
  const metrics = new Metrics(database.db);
  app.setErrorHandler((error: FastifyError | Problem, request, reply) => {
    const problem = problemOf(error);
    if (problem.code === 'INTERNAL') request.log.error({ err: error }, 'request failed');
    void reply.code(problem.status).type('application/problem+json').send(JSON.stringify(problem.document));
  });
  app.setNotFoundHandler((request) => {
    throw new Problem('NOT_FOUND', `there is no ${request.method} ${request.url.split('?')[0]}`);
  });
  app.addHook('onResponse', (request, reply, done) => {
    const operation = (request.routeOptions.schema as { operationId?: string } | undefined)?.operationId;
    if (operation !== undefined) {
      metrics.answered(operation, reply.statusCode, reply.elapsedTime);
      request.log.info({ operation, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'request');
    }
    done();
  });
  // A request may have an empty body with the type of JSON.
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    try {
      done(null, body === '' ? undefined : (JSON.parse(body as string) as unknown));
    } catch (error) {
      done(new Problem('BAD_REQUEST', `the body is no JSON: ${(error as Error).message}`));
    }
  });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0', info: { title: 'lunfs control plane', version, description: 'Hosts, storages, tasks, users. Never in the data path.', license: { name: 'GPL-2.0-or-later' } },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } }, security: [{ token: [] }],
    },
    stripBasePath: false,
  });
  const api = new Api(app, { database, events, committed });
  userOperations(api);
  sessionOperations(api);
  tokenOperations(api);
  taskOperations(api);
  eventOperations(api, events, closing);
  more(api);
  app.get('/api/v1/openapi.json', { schema: { hide: true } }, () => app.swagger());
  app.get('/healthz', { schema: { hide: true } }, () => ({ status: 'alive' }));
  app.get('/readyz', { schema: { hide: true } }, async () => {
    const waiting = waitsFor();
    if (waiting !== undefined) throw new Problem('NOT_READY', waiting);
    await database.db.selectFrom('settings').select('name').limit(1).execute().catch((error: unknown) => {
      throw new Problem('NOT_READY', `the database does not answer: ${(error as Error).message}`);
    });
    return { status: 'ready' };
  });
  app.get('/metrics', { schema: { hide: true } }, async (request, reply) => {
    await actorOf(database.db, request.headers.authorization);
    return reply.type(metrics.type).send(await metrics.text());
  });
  await app.ready();
  return app;
}

function problemOf(error: FastifyError | Problem): Problem {
  if (error instanceof Problem) return error;
  if (error.validation !== undefined) return new Problem('BAD_REQUEST', error.validation.map((one) => `${error.validationContext ?? 'request'}${one.instancePath} ${one.message}${extra(one.params)}`).join('; '));
  if (error.statusCode !== undefined && error.statusCode < 500) return new Problem('BAD_REQUEST', error.message);
  return new Problem('INTERNAL', 'the request failed; the log of the control plane says why');
}

function extra(params: Readonly<Record<string, unknown>>): string {
  return typeof params.additionalProperty === 'string' ? `: ${params.additionalProperty}` : '';
}
