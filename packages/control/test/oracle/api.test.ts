/** Every operation of the API, with good and bad input, without a token, with one that has expired or was revoked, with too small a role, and asked twice under one key. */
import * as Schema from 'typebox/schema';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cleanup } from '../../../../test/support/temp.js';
import { ROLES, type Role, mayAs } from '../../src/auth/roles.js';
import { CASES, type Given } from '../support/cases.js';
import { KINDS } from '../support/databases.js';
import { type Answered, World } from '../support/world.js';

interface ObjectSchema {
  readonly properties?: Readonly<Record<string, object>>;
  readonly required?: readonly string[];
}
interface Operation {
  readonly operationId: string;
  readonly 'x-lunfs-role': Role | 'anyone';
  readonly requestBody?: { readonly content: { readonly 'application/json': { readonly schema: ObjectSchema } } };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { readonly schema: object }>> }>>;
}
interface OpenApi {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

describe.each(KINDS)('the API on %s', (kind) => {
  const cleanup = new Cleanup();
  let world: World;
  let operations: { readonly id: string; readonly method: string; readonly path: string; readonly about: Operation; readonly role: Role }[];

  beforeAll(async () => {
    world = await World.start(cleanup, kind);
    const { openapi, paths } = (await world.ask('GET', '/api/v1/openapi.json')).body as OpenApi;
    expect(openapi).toBe('3.1.0');
    operations = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, about]) => ({ id: about.operationId, method: method.toUpperCase(), path, about, role: about['x-lunfs-role'] === 'anyone' ? 'viewer' as const : about['x-lunfs-role'] })));
  }, 180_000);
  afterAll(() => cleanup.run(), 60_000);

  const url = (path: string, { params = {}, query = '' }: Given): string => path.replaceAll(/\{(\w+)\}/g, (_, name: string) => params[name]) + query;
  const refused = (answered: Answered, status: number, code: string, what: string): void => {
    expect({ what, status: answered.status, code: (answered.body as { code?: string } | undefined)?.code, type: answered.headers['content-type'] })
      .toMatchObject({ what, status, code, type: expect.stringContaining('application/problem+json') as string });
    expect((answered.body as { remedy: string; detail: string }).remedy).not.toBe('');
  };

  it('has cases for every operation, and no others', () => {
    expect(Object.keys(CASES).sort()).toEqual(operations.map(({ id }) => id).sort());
  });

  it('answers good requests as its document says', { timeout: 300_000 }, async () => {
    for (const { id, method, path, about, role } of operations) {
      const given = await CASES[id].good(world);
      // A session of his own, for the operation may end it.
      const { token } = await world.user(CASES[id].as ?? role);
      const answered = await world.ask(method, url(path, given), { token, body: given.body });
      const [status] = Object.keys(about.responses);
      expect({ id, status: String(answered.status), said: answered.status < 300 ? '' : answered.text }).toEqual({ id, status, said: '' });
      if (CASES[id].stream) continue;
      const { schema } = about.responses[status].content!['application/json'];
      expect({ id, fits: Schema.Check(schema, answered.body), body: answered.body }).toMatchObject({ id, fits: true });
    }
  });

  it('refuses bad requests by name', { timeout: 300_000 }, async () => {
    for (const { id, method, path, role } of operations) {
      for (const { what, given, status, code } of CASES[id].bad ?? []) {
        const { params, query, body } = await given(world);
        refused(await world.ask(method, url(path, { params, query }), { token: world.tokens[role], body }), status, code, `${id}: ${what}`);
      }
    }
  });

  it('refuses what no schema has', { timeout: 300_000 }, async () => {
    for (const { id, method, path, about, role } of operations) {
      const token = world.tokens[role];
      const given = await CASES[id].good(world);
      if (path.includes('{id}')) {
        refused(await world.ask(method, url(path, { params: { id: 'no-uuid' } }), { token, body: given.body }), 400, 'BAD_REQUEST', `${id}: an id that is none`);
        refused(await world.ask(method, url(path, { ...given, params: { ...given.params, id: '00000000-0000-4000-8000-000000000000' } }), { token, body: given.body }), 404, 'NOT_FOUND', `${id}: an id of nothing`);
      }
      const schema = about.requestBody?.content['application/json'].schema;
      if (schema === undefined) continue;
      const good = given.body as Record<string, unknown>;
      const bad: [string, unknown][] = [['no body', undefined], ['a list', []], ['a superfluous property', { ...good, superfluous: 1 }]];
      for (const name of schema.required ?? []) bad.push([`no ${name}`, Object.fromEntries(Object.entries(good).filter(([key]) => key !== name))]);
      for (const name of Object.keys(schema.properties ?? {})) bad.push([`${name} is an object`, { ...good, [name]: { a: 1 } }]);
      for (const [what, body] of bad) refused(await world.ask(method, url(path, given), { token, body }), 400, 'BAD_REQUEST', `${id}: ${what}`);
      refused(await world.ask(method, url(path, given), { token, raw: '{' }), 400, 'BAD_REQUEST', `${id}: no JSON`);
    }
    refused(await world.ask('GET', '/api/v1/nothing', { token: world.tokens.admin }), 404, 'NOT_FOUND', 'no such path');
  });

  it('admits nobody without a good token, and nobody with too small a role', { timeout: 300_000 }, async () => {
    const expired = await world.someToken(-1000);
    const revoked = await world.someToken();
    expect((await world.ask('DELETE', `/api/v1/tokens/${revoked.id}`, { token: world.tokens.admin })).status).toBe(200);
    const disabled = await world.user('admin');
    expect((await world.ask('PATCH', `/api/v1/users/${disabled.id}`, { token: world.tokens.admin, body: { enabled: false } })).status).toBe(200);
    const tokens: [string, string | undefined, string][] = [
      ['no token', undefined, 'NOT_AUTHENTICATED'], ['no token at all', 'nonsense', 'NOT_AUTHENTICATED'], ['another secret', `${world.tokens.admin.slice(0, -43)}${'A'.repeat(43)}`, 'NOT_AUTHENTICATED'],
      ['an expired token', expired.token, 'TOKEN_EXPIRED'], ['a revoked token', revoked.token, 'TOKEN_REVOKED'], ['a token of a disabled user', disabled.token, 'TOKEN_REVOKED'],
    ];
    for (const { id, method, path, about, role } of operations) {
      if (about['x-lunfs-role'] === 'anyone') continue;
      const given = await CASES[id].good(world);
      for (const [what, token, code] of tokens) refused(await world.ask(method, url(path, given), { token, body: given.body }), 401, code, `${id}: ${what}`);
      for (const smaller of ROLES.filter((one) => !mayAs(one, role))) refused(await world.ask(method, url(path, given), { token: world.tokens[smaller], body: given.body }), 403, 'FORBIDDEN', `${id}: as ${smaller}`);
    }
  });

  it('does under one key once, and says again what it said', { timeout: 300_000 }, async () => {
    for (const { id, method, path, about, role } of operations.filter((one) => one.method !== 'GET')) {
      const given = await CASES[id].good(world);
      const { token } = await world.user(CASES[id].as ?? role);
      const ask = (key: string, body = given.body): Promise<Answered> => world.ask(method, url(path, given), { token, body, headers: { 'idempotency-key': key } });
      const key = `${id}-${world.name('key')}-0123456789`;
      const before = await world.database.db.selectFrom('events').select((e) => e.fn.countAll<number | string>().as('n')).executeTakeFirstOrThrow();
      // The operation ends the very token: there is nobody left who could ask again.
      if (id === 'logout') continue;
      const answers = await Promise.all([ask(key), ask(key)]);
      answers.push(await ask(key));
      expect({ id, statuses: answers.map(({ status }) => Math.floor(status / 100)) }).toEqual({ id, statuses: [2, 2, 2] });
      expect({ id, same: answers.every(({ text }) => text === answers[0].text) }).toEqual({ id, same: true });
      expect({ id, replayed: answers.filter(({ headers }) => headers['idempotency-replayed'] === 'true').length }).toEqual({ id, replayed: 2 });
      const after = await world.database.db.selectFrom('events').select((e) => e.fn.countAll<number | string>().as('n')).executeTakeFirstOrThrow();
      expect({ id, events: Number(after.n) - Number(before.n) }).toEqual({ id, events: 1 });
      const other = about['x-lunfs-role'] === 'anyone' ? ask(key, { ...(given.body as object), password: 'another one' }) : world.ask('POST', '/api/v1/tokens', { token, body: { name: 'other', days: 1 }, headers: { 'idempotency-key': key } });
      refused(await other, 422, 'IDEMPOTENCY_KEY_REUSED', `${id}: the key for something else`);
      refused(await ask('short'), 400, 'BAD_REQUEST', `${id}: a key that can be guessed`);
    }
    // A refusal changed nothing and is not kept.
    const name = world.name('user'), key = `refused-${name}-0123456789`;
    const make = (role: string): Promise<Answered> => world.ask('POST', '/api/v1/users', { token: world.tokens.admin, body: { name, role, password: world.password }, headers: { 'idempotency-key': key } });
    refused(await make('king'), 400, 'BAD_REQUEST', 'a role that is none');
    expect((await make('viewer')).status).toBe(201);
    // What is shown once is not in the database as it is.
    const made = (await world.ask('POST', '/api/v1/tokens', { token: world.tokens.admin, body: { name: 'secret', days: 1 }, headers: { 'idempotency-key': 'a key that nobody guesses'.replaceAll(' ', '-') } })).body as { token: string };
    const stored = JSON.stringify([await world.database.db.selectFrom('idempotency').selectAll().execute(), await world.database.db.selectFrom('tokens').selectAll().execute()]);
    expect(stored).not.toContain(made.token.slice(-43));
  });

  it('tells events as they happen, from where a reader left off', { timeout: 120_000 }, async () => {
    const { id: last } = ((await world.ask('GET', '/api/v1/events?limit=1', { token: world.tokens.viewer })).body as { id: number }[])[0];
    const name = world.name('streamed');
    const stream = world.events(world.tokens.viewer, last);
    expect((await world.ask('POST', '/api/v1/users', { token: world.tokens.admin, body: { name, role: 'viewer', password: world.password } })).status).toBe(201);
    const first = await stream.next();
    expect(first).toMatchObject({ type: 'user.created', message: `user ${name} with the role viewer`, user_name: 'admin' });
    stream.close();
    // Meanwhile nobody reads; then everything comes, in order.
    const names = [world.name('missed'), world.name('missed')];
    for (const one of names) await world.ask('POST', '/api/v1/users', { token: world.tokens.admin, body: { name: one, role: 'viewer', password: world.password } });
    const again = world.events(world.tokens.viewer, first.id);
    expect([await again.next(), await again.next()].map(({ message }) => message)).toEqual(names.map((one) => `user ${one} with the role viewer`));
    again.close();
  });

  it('is healthy, ready, and has figures', { timeout: 60_000 }, async () => {
    expect((await world.ask('GET', '/healthz')).body).toEqual({ status: 'alive' });
    expect((await world.ask('GET', '/readyz')).body).toEqual({ status: 'ready' });
    refused(await world.ask('GET', '/metrics'), 401, 'NOT_AUTHENTICATED', 'figures without a token');
    expect((await world.ask('GET', '/metrics', { token: world.tokens.viewer })).text).toMatch(/^lunfs_control_requests_total\{operation="createUser",status="201"\} \d+$/m);
  });

  it('refuses logins after many that failed, and gives the token of a user no more than his role', { timeout: 120_000 }, async () => {
    const { name } = await world.user('viewer');
    const login = (password: string): Promise<Answered> => world.ask('POST', '/api/v1/sessions', { body: { name, password } });
    for (let i = 0; i < 5; i++) refused(await login('wrong'), 401, 'BAD_LOGIN', 'a wrong password');
    refused(await login(world.password), 429, 'TOO_MANY_LOGINS', 'the right one, too late');
    refused(await world.ask('POST', '/api/v1/tokens', { token: world.tokens.operator, body: { name: 'more', role: 'admin', days: 1 } }), 403, 'FORBIDDEN', 'a token with more than his role');
    // Who was an admin is one no more, with all his tokens.
    const fallen = await world.user('admin');
    expect((await world.ask('PATCH', `/api/v1/users/${fallen.id}`, { token: world.tokens.admin, body: { role: 'viewer' } })).status).toBe(200);
    refused(await world.ask('GET', '/api/v1/users', { token: fallen.token }), 403, 'FORBIDDEN', 'a fallen admin');
  });
});
