/**
 * Idempotency keys. The first answer is stored in the transaction of the change that it tells of: either both are there or neither, whenever the control plane
 * dies, and of two requests at once one waits for the other. Answers that refuse are not kept, for they changed nothing.
 *
 * An answer may hold a token that is shown once. So it is sealed with a key made of the client's, of which only a hash is stored.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { timestamp } from './clock.js';
import type { Db, Trx } from './db/schema.js';
import { Problem } from './problems.js';

/** For how long an answer is kept. */
const KEPT_MS = 24 * 3600_000;

/** Keys are secrets of the client: long enough that nobody finds one by trying. */
export const KEY_SHAPE = '^[\\x21-\\x7e]{16,200}$';

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** A request that has a key. */
export class KeyedRequest {
  readonly #id: string;
  readonly #hash: string;

  constructor(user: string, private readonly key: string, method: string, url: string, body: unknown) {
    this.#id = createHash('sha256').update(JSON.stringify([user, key])).digest('hex');
    this.#hash = createHash('sha256').update(JSON.stringify([method, url, body ?? null])).digest('hex');
  }

  /** The first answer, if there was one. Throws IDEMPOTENCY_KEY_REUSED. */
  async replayed(trx: Trx): Promise<Answer | undefined> {
    const row = await trx.selectFrom('idempotency').selectAll().where('id', '=', this.#id).executeTakeFirst();
    if (row === undefined) return undefined;
    if (row.request_hash !== this.#hash) throw new Problem('IDEMPOTENCY_KEY_REUSED', 'this idempotency key came with another request before');
    return { status: row.status, body: this.#open(row.sealed) };
  }

  async keep(trx: Trx, { status, body }: Answer): Promise<void> {
    await trx.insertInto('idempotency').values({ id: this.#id, request_hash: this.#hash, status, sealed: this.#seal(body), created_at: timestamp() }).execute();
  }

  #sealKey(): Buffer {
    return Buffer.from(hkdfSync('sha256', this.key, this.#id, 'lunfs idempotency', 32));
  }

  #seal(body: unknown): string {
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#sealKey(), iv);
    const text = Buffer.concat([cipher.update(JSON.stringify(body ?? null)), cipher.final()]);
    return Buffer.concat([iv, cipher.getAuthTag(), text]).toString('base64');
  }

  #open(sealed: string): unknown {
    const bytes = Buffer.from(sealed, 'base64');
    const decipher = createDecipheriv('aes-256-gcm', this.#sealKey(), bytes.subarray(0, 12));
    decipher.setAuthTag(bytes.subarray(12, 28));
    return JSON.parse(Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString()) as unknown;
  }
}

/** Forgets answers that are older than they are kept. */
export async function forgetOld(db: Db): Promise<void> {
  await db.deleteFrom('idempotency').where('created_at', '<', timestamp(-KEPT_MS)).execute();
}
