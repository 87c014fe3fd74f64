/** Who asks: found by the token of a request. */
import { timestamp } from '../clock.js';
import type { Db } from '../db/schema.js';
import { Problem } from '../problems.js';
import { type Role, lesser } from './roles.js';
import { readToken, secretFits } from './secrets.js';

export interface Actor {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  /** Token by which he came. */
  readonly tokenId: string;
}

/** Throws NOT_AUTHENTICATED, TOKEN_EXPIRED, TOKEN_REVOKED. The last two are told only to who knows the secret. */
export async function actorOf(db: Db, authorization: string | undefined): Promise<Actor> {
  const [scheme, text = ''] = (authorization ?? '').split(' ');
  const given = scheme.toLowerCase() === 'bearer' ? readToken(text) : undefined;
  if (given === undefined) throw new Problem('NOT_AUTHENTICATED', authorization === undefined ? 'the request has no token' : 'the request has nothing that is shaped like a token');
  const row = await db.selectFrom('tokens').innerJoin('users', 'users.id', 'tokens.user_id').where('tokens.id', '=', given.id)
    .select(['tokens.hash', 'tokens.role as token_role', 'tokens.expires_at', 'tokens.revoked_at', 'users.id', 'users.name', 'users.role', 'users.enabled']).executeTakeFirst();
  if (row === undefined || !secretFits(row.hash, given.secret)) throw new Problem('NOT_AUTHENTICATED', 'the token is not known');
  if (row.revoked_at !== null || row.enabled !== 1) throw new Problem('TOKEN_REVOKED', row.enabled === 1 ? `the token was revoked at ${row.revoked_at}` : `user ${row.name} is disabled`);
  if (row.expires_at <= timestamp()) throw new Problem('TOKEN_EXPIRED', `the token has expired at ${row.expires_at}`);
  return { id: row.id, name: row.name, role: lesser(row.role as Role, row.token_role as Role), tokenId: given.id };
}
