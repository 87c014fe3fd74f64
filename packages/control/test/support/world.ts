/** A control plane in this process, asked over its own HTTPS, with users of each role. */
import * as fs from 'node:fs';
import * as https from 'node:https';
import path from 'node:path';
import { type Cleanup, tempDir } from '../../../../test/support/temp.js';
import { addToken } from '../../src/api/users.js';
import { ROLES, type Role } from '../../src/auth/roles.js';
import { hashPassword } from '../../src/auth/secrets.js';
import { type ClientContext, Control } from '../../src/control.js';
import { newId } from '../../src/random.js';
import { type Kind, freshDatabase } from './databases.js';

export interface Answered {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: unknown;
  readonly text: string;
}

export interface Person {
  readonly id: string;
  readonly name: string;
  readonly token: string;
}

export class World {
  readonly password = 'correct horse battery';
  readonly tokens = {} as Record<Role, string>;
  admin!: Person;
  #passwordHash!: string;
  #names = 0;

  private constructor(readonly control: Control, readonly context: ClientContext, readonly directory: string) {}

  static async start(cleanup: Cleanup, kind: Kind): Promise<World> {
    const directory = tempDir(cleanup, 'control');
    const control = await Control.start({ database: await freshDatabase(cleanup, kind), directory, host: '127.0.0.1', port: 0, names: [], logLevel: 'error' });
    cleanup.add(() => control.stop());
    const world = new World(control, JSON.parse(fs.readFileSync(path.join(directory, 'client.json'), 'utf8')) as ClientContext, directory);
    world.#passwordHash = await hashPassword(world.password);
    const { id } = (await world.ask('GET', '/api/v1/sessions/current', { token: world.context.token })).body as { id: string };
    world.admin = { id, name: 'admin', token: world.context.token };
    for (const role of ROLES) world.tokens[role] = role === 'admin' ? world.context.token : (await world.user(role)).token;
    return world;
  }

  get database(): Control['database'] {
    return this.control.database;
  }

  name(what: string): string {
    return `${what}-${++this.#names}`;
  }

  /** A user of his own with a token. */
  async user(role: Role): Promise<Person> {
    const id = newId(), name = this.name(role);
    return this.database.change(async (trx) => {
      await trx.insertInto('users').values({ id, name, role, password_hash: this.#passwordHash, enabled: 1, created_at: new Date().toISOString() }).execute();
      const { token } = await addToken(trx, { id, name }, { kind: 'api', name: 'test', role, forMs: 3600_000 });
      return { id, name, token };
    });
  }

  /** The admin, who is the only one from now on. */
  async lastAdmin(): Promise<string> {
    await this.database.change((trx) => trx.deleteFrom('users').where('role', '=', 'admin').where('id', '!=', this.admin.id).execute());
    return this.admin.id;
  }

  /** A token of the admin that nobody uses. */
  async someToken(forMs = 3600_000): Promise<{ id: string; token: string }> {
    const made = await this.database.change((trx) => addToken(trx, this.admin, { kind: 'api', name: this.name('token'), role: 'admin', forMs }));
    return { id: made.id, token: made.token };
  }

  /** A task in a state; no engine knows its steps. A pending one is another engine's. */
  async task(status: string): Promise<string> {
    const id = newId();
    const time = new Date().toISOString();
    await this.database.change(async (trx) => {
      await trx.insertInto('tasks').values({ id, type: 'test', status, object_type: 'test', object_id: id, object_name: 'test', user_name: 'admin', cancel_requested: 0, error_code: null, error: null, owner: 'nobody', created_at: time, started_at: null, ended_at: null }).execute();
      await trx.insertInto('task_steps').values({ task_id: id, number: 0, stage: 0, kind: 'test', title: 'test', args: '{}', status: 'pending', before: null, error: null, started_at: null, ended_at: null }).execute();
    });
    return id;
  }

  ask(method: string, url: string, options: { readonly token?: string; readonly body?: unknown; readonly raw?: string; readonly headers?: Readonly<Record<string, string>> } = {}): Promise<Answered> {
    const { token, body, headers } = options;
    const text = options.raw ?? (body === undefined ? undefined : JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const request = https.request(new URL(url, this.context.url), {
        method, ca: this.context.ca, agent: false,
        headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...(text === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      }, (response) => {
        let said = '';
        const done = (): void => {
          let json: unknown;
          try {
            json = JSON.parse(said);
          } catch {
            json = undefined;
          }
          resolve({ status: response.statusCode!, headers: response.headers, body: json, text: said });
        };
        response.on('data', (part: Buffer) => {
          said += part.toString();
          // A stream does not end of itself.
          if (response.headers['content-type'] === 'text/event-stream') {
            done();
            request.destroy();
          }
        });
        response.once('end', done);
      });
      request.once('error', reject);
      request.end(text);
    });
  }

  /** The stream of events after a number. */
  events(token: string, after: number): { next(): Promise<{ id: number; type: string; message: string; user_name: string | null }>; close(): void } {
    const waiting: ((text: string) => void)[] = [], got: string[] = [];
    let said = '';
    const request = https.get(new URL('/api/v1/events/stream', this.context.url), { ca: this.context.ca, agent: false, headers: { authorization: `Bearer ${token}`, 'last-event-id': String(after) } }, (response) => {
      response.on('data', (part: Buffer) => {
        const parts = (said + part.toString()).split('\n\n');
        said = parts.pop()!;
        for (const [, data] of parts.flatMap((one) => { const found = /^data: (.*)$/m.exec(one); return found ? [found] : []; })) {
          const next = waiting.shift();
          if (next) next(data);
          else got.push(data);
        }
      });
      response.on('error', () => undefined);
    });
    request.on('error', () => undefined);
    return {
      next: async () => JSON.parse(got.shift() ?? (await new Promise<string>((resolve) => { waiting.push(resolve); }))) as { id: number; type: string; message: string; user_name: string | null },
      close: () => request.destroy(),
    };
  }
}
