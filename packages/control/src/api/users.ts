/** Users, and the sessions and tokens by which they come. */
import { type Static, Type } from 'typebox';
import type { Actor } from '../auth/actor.js';
import { type Role, ROLES, RoleSchema, lesser, mayAs } from '../auth/roles.js';
import { hashPassword, makeToken, passwordFits } from '../auth/secrets.js';
import { monotonicMs, timestamp } from '../clock.js';
import type { TokenRow, Trx, UserRow } from '../db/schema.js';
import { Problem, notFound } from '../problems.js';
import { newId, newSecret } from '../random.js';
import type { Api } from './operation.js';
import { ById, Id, Name, Nothing, STRICT, Time } from './schemas.js';

const Password = Type.String({ minLength: 10, maxLength: 200 });

export const UserDocument = Type.Object({ id: Id, name: Name, role: RoleSchema, enabled: Type.Boolean(), created_at: Time });
export type UserFacts = Static<typeof UserDocument>;

export const TokenDocument = Type.Object({
  id: Id, user_id: Id, user_name: Type.String(), kind: Type.Enum(['api', 'session']), name: Type.String(), role: RoleSchema, created_at: Time, expires_at: Time,
  revoked_at: Type.Union([Time, Type.Null()]),
});
export type TokenFacts = Static<typeof TokenDocument>;

export const TokenMade = Type.Intersect([TokenDocument, Type.Object({ token: Type.String({ description: 'Shown once.' }) })]);
export type TokenMadeFacts = Static<typeof TokenMade>;

const SESSION_MS = 12 * 3600_000;
const DAY_MS = 24 * 3600_000;
/** Failed logins of one name within the time after which others are refused. */
const LOGINS = { most: 5, withinMs: 60_000 };

/** One account of the failed logins of each name; forgets by itself. */
class FailedLogins {
  readonly #times = new Map<string, number[]>();

  check(name: string): void {
    if (this.#recent(name).length >= LOGINS.most) throw new Problem('TOO_MANY_LOGINS', `${LOGINS.most} logins as ${name} have failed within a minute`);
  }

  add(name: string): void {
    // Names that nobody asked for any more must not stay.
    if (this.#times.size > 10_000) this.#times.clear();
    this.#times.set(name, [...this.#recent(name), monotonicMs()]);
  }

  #recent(name: string): number[] {
    return (this.#times.get(name) ?? []).filter((at) => at > monotonicMs() - LOGINS.withinMs);
  }
}

function userDocument({ id, name, role, enabled, created_at }: UserRow): UserFacts {
  return { id, name, role: role as Role, enabled: enabled === 1, created_at };
}

function tokenDocument(row: Omit<TokenRow, 'hash'> & { readonly user_name: string }): TokenFacts {
  const { id, user_id, user_name, name, created_at, expires_at, revoked_at } = row;
  return { id, user_id, user_name, kind: row.kind as 'api' | 'session', name, role: row.role as Role, created_at, expires_at, revoked_at };
}

async function userById(trx: Trx, id: string): Promise<UserRow> {
  const user = await trx.selectFrom('users').selectAll().where('id', '=', id).executeTakeFirst();
  if (user === undefined) throw notFound('user', id);
  return user;
}

/** Throws LAST_ADMIN when nobody would be left to give roles. */
async function keepAnAdmin(trx: Trx): Promise<void> {
  const admin = await trx.selectFrom('users').select('id').where('role', '=', 'admin').where('enabled', '=', 1).executeTakeFirst();
  if (admin === undefined) throw new Problem('LAST_ADMIN', 'nobody would be left with the role admin');
}

/** A token of a user, and its text. */
export async function addToken(trx: Trx, user: Pick<UserRow, 'id' | 'name'>, given: { readonly kind: 'api' | 'session'; readonly name: string; readonly role: Role; readonly forMs: number }): Promise<TokenMadeFacts> {
  const id = newId();
  const { text, hash } = makeToken(id);
  const row = { id, user_id: user.id, kind: given.kind, name: given.name, role: given.role, created_at: timestamp(), expires_at: timestamp(given.forMs), revoked_at: null };
  await trx.insertInto('tokens').values({ ...row, hash }).execute();
  return { ...tokenDocument({ ...row, user_name: user.name }), token: text };
}

/** The first admin, where there is no user at all. Resolves to a token for him, else undefined. */
export async function firstAdmin(trx: Trx, passwordHash: string): Promise<string | undefined> {
  if ((await trx.selectFrom('users').select('id').executeTakeFirst()) !== undefined) return undefined;
  const user = { id: newId(), name: 'admin', role: 'admin', password_hash: passwordHash, enabled: 1, created_at: timestamp() };
  await trx.insertInto('users').values(user).execute();
  return (await addToken(trx, user, { kind: 'api', name: 'first', role: 'admin', forMs: 365 * DAY_MS })).token;
}

export function userOperations(api: Api): void {
  const tag = 'users';
  api.read({ id: 'listUsers', method: 'GET', path: '/users', tag, summary: 'List users', role: 'admin', answer: Type.Array(UserDocument) },
    async ({ db }) => (await db.selectFrom('users').selectAll().orderBy('name').execute()).map(userDocument));

  api.changeAfter({
    id: 'createUser', method: 'POST', path: '/users', tag, summary: 'Make a user', role: 'admin', status: 201, answer: UserDocument,
    body: Type.Object({ name: Name, role: RoleSchema, password: Password }, STRICT),
  }, ({ body }) => hashPassword(body.password), async ({ trx, body: { name, role }, ready, tell }) => {
    if ((await trx.selectFrom('users').select('id').where('name', '=', name).executeTakeFirst()) !== undefined) throw new Problem('NAME_TAKEN', `there is a user ${name} already`);
    const user = { id: newId(), name, role, password_hash: ready, enabled: 1, created_at: timestamp() };
    await trx.insertInto('users').values(user).execute();
    tell({ type: 'user.created', object: { type: 'user', id: user.id }, message: `user ${name} with the role ${role}` });
    return userDocument(user);
  });

  api.changeAfter({
    id: 'updateUser', method: 'PATCH', path: '/users/:id', tag, summary: 'Change role, password or state of a user; a new password or a disabled user ends his sessions and tokens', role: 'admin', params: ById, answer: UserDocument,
    body: Type.Object({ role: Type.Optional(RoleSchema), password: Type.Optional(Password), enabled: Type.Optional(Type.Boolean()) }, { ...STRICT, minProperties: 1 }),
  }, async ({ body }) => (body.password === undefined ? undefined : hashPassword(body.password)), async ({ trx, params: { id }, body, ready, tell }) => {
    const before = await userById(trx, id);
    const user = { ...before, role: body.role ?? before.role, enabled: body.enabled === undefined ? before.enabled : Number(body.enabled), password_hash: ready ?? before.password_hash };
    await trx.updateTable('users').set(user).where('id', '=', id).execute();
    await keepAnAdmin(trx);
    if (ready !== undefined || user.enabled === 0) await trx.updateTable('tokens').set({ revoked_at: timestamp() }).where('user_id', '=', id).where('revoked_at', 'is', null).execute();
    const changed = [body.role && `role ${body.role}`, body.password && 'a new password', body.enabled === undefined ? undefined : body.enabled ? 'enabled' : 'disabled'].filter(Boolean);
    tell({ type: 'user.updated', object: { type: 'user', id }, message: `user ${user.name}: ${changed.join(', ')}` });
    return userDocument(user);
  });

  api.change({ id: 'deleteUser', method: 'DELETE', path: '/users/:id', tag, summary: 'Remove a user with his tokens', role: 'admin', params: ById, answer: Nothing }, async ({ trx, params: { id }, tell }) => {
    const { name } = await userById(trx, id);
    await trx.deleteFrom('users').where('id', '=', id).execute();
    await keepAnAdmin(trx);
    tell({ type: 'user.deleted', object: { type: 'user', id }, message: `user ${name}` });
    return {};
  });
}

export function sessionOperations(api: Api): void {
  const tag = 'sessions';
  const failed = new FailedLogins();
  // Whether a name exists must not show in the time that the answer takes.
  const nobody = hashPassword(newSecret());
  api.changeAfter({
    id: 'login', method: 'POST', path: '/sessions', tag, summary: 'Log in', role: 'anyone', status: 201, answer: TokenMade,
    body: Type.Object({ name: Type.String({ maxLength: 63 }), password: Type.String({ maxLength: 200 }) }, STRICT),
  }, async ({ db, body: { name, password } }) => {
    failed.check(name);
    const user = await db.selectFrom('users').selectAll().where('name', '=', name).executeTakeFirst();
    const fits = await passwordFits(user?.password_hash ?? (await nobody), password);
    if (user === undefined || user.enabled !== 1 || !fits) {
      failed.add(name);
      throw new Problem('BAD_LOGIN', 'the name or the password is wrong');
    }
    return user.id;
  }, async ({ trx, ready, tell }) => {
    const { id, name, role } = await userById(trx, ready);
    tell({ type: 'session.created', object: { type: 'user', id }, message: `${name} has logged in` });
    return addToken(trx, { id, name }, { kind: 'session', name: 'session', role: role as Role, forMs: SESSION_MS });
  });

  api.read({ id: 'whoAmI', method: 'GET', path: '/sessions/current', tag, summary: 'Whose token this is', role: 'viewer', answer: Type.Object({ id: Id, name: Name, role: RoleSchema }) },
    ({ actor: { id, name, role } }) => Promise.resolve({ id, name, role }));

  api.change({ id: 'logout', method: 'DELETE', path: '/sessions/current', tag, summary: 'Revoke the token by which this is asked', role: 'viewer', answer: Nothing }, async ({ trx, actor }) => {
    await trx.updateTable('tokens').set({ revoked_at: timestamp() }).where('id', '=', actor.tokenId).execute();
    return {};
  });
}

export function tokenOperations(api: Api): void {
  const tag = 'tokens';
  const seenBy = (actor: Actor): boolean => mayAs(actor.role, 'admin');
  api.read({ id: 'listTokens', method: 'GET', path: '/tokens', tag, summary: "List one's own tokens and sessions; an admin sees all", role: 'viewer', answer: Type.Array(TokenDocument) }, async ({ db, actor }) => {
    const all = db.selectFrom('tokens').innerJoin('users', 'users.id', 'tokens.user_id').selectAll('tokens').select('users.name as user_name').orderBy('tokens.created_at');
    return (await (seenBy(actor) ? all : all.where('users.id', '=', actor.id)).execute()).map(tokenDocument);
  });

  api.change({
    id: 'createToken', method: 'POST', path: '/tokens', tag, summary: 'Make an API token of one\'s own', role: 'viewer', status: 201, answer: TokenMade,
    body: Type.Object({ name: Name, role: Type.Optional(Type.Enum([...ROLES], { description: "Default: one's own; never more." })), days: Type.Integer({ minimum: 1, maximum: 3650 }) }, STRICT),
  }, async ({ trx, actor, body: { name, role = actor.role, days }, tell }) => {
    if (!mayAs(actor.role, role)) throw new Problem('FORBIDDEN', `${actor.name} is ${actor.role} here and can make no token with the role ${role}`);
    const made = await addToken(trx, actor, { kind: 'api', name, role: lesser(role, actor.role), forMs: days * DAY_MS });
    tell({ type: 'token.created', object: { type: 'token', id: made.id }, message: `token ${name} of ${actor.name}, role ${role}, until ${made.expires_at}` });
    return made;
  });

  api.change({ id: 'revokeToken', method: 'DELETE', path: '/tokens/:id', tag, summary: "Revoke one's own token; an admin anybody's", role: 'viewer', params: ById, answer: Nothing }, async ({ trx, actor, params: { id }, tell }) => {
    const row = await trx.selectFrom('tokens').select(['user_id', 'name']).where('id', '=', id).executeTakeFirst();
    if (row === undefined || (row.user_id !== actor.id && !seenBy(actor))) throw notFound('token', id);
    await trx.updateTable('tokens').set({ revoked_at: timestamp() }).where('id', '=', id).where('revoked_at', 'is', null).execute();
    tell({ type: 'token.revoked', object: { type: 'token', id }, message: `token ${row.name}` });
    return {};
  });
}
