/** The control plane: database, API, and, while it is the leader, the tasks. `lunfs control serve` runs one. */
import * as fs from 'node:fs';
import { isIP } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { IoError } from '@lunfs/device';
import type { FastifyInstance } from 'fastify';
import { type Logger, pino } from 'pino';
import { firstAdmin } from './api/users.js';
import { buildApp } from './api/app.js';
import { hashPassword } from './auth/secrets.js';
import { every, pause } from './clock.js';
import { leadWhenElected } from './db/leader.js';
import { type OpenedDatabase, openDatabase } from './db/open.js';
import { Events } from './events.js';
import { Authority, CONTROL_URI } from './hosts/authority.js';
import { forgetOld } from './idempotency.js';
import { newSecret } from './random.js';
import { TaskEngine } from './tasks/engine.js';
import type { StepKind } from './tasks/task.js';

export interface ControlOptions {
  /** `sqlite:FILE` or `postgres://…`. Default: a file in the directory. */
  readonly database?: string;
  /** Where its files are. */
  readonly directory: string;
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** More names and addresses by which it is reached. */
  readonly names: readonly string[];
  readonly logLevel: string;
}

/** What a client needs to come as the first admin; in the file `client.json` of the directory (mode 0600). */
export interface ClientContext {
  readonly url: string;
  /** Certificate of the authority, PEM. */
  readonly ca: string;
  readonly token: string;
}

const FORGET_MS = 3600_000;
/** Between two attempts of a leader whose database fails. */
const RETRY_MS = 1000;

export class Control {
  readonly #closing = new AbortController();
  #leading: Promise<void> = Promise.resolve();
  #engine: TaskEngine | undefined;
  #app!: FastifyInstance;
  #stopForgetting!: () => void;
  url = '';
  /** File with a token of the first admin, where this start has made him. */
  firstClient: string | undefined;

  private constructor(readonly database: OpenedDatabase, private readonly log: Logger, private readonly events: Events) {}

  /** Resolves when it listens. Throws what database and listening refuse, by name. */
  static async start(options: ControlOptions): Promise<Control> {
    const { directory, logLevel } = options;
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const setting = options.database ?? `sqlite:${path.join(directory, 'control.db')}`;
    const database = await openDatabase(setting);
    try {
      const log = pino({ level: logLevel, redact: ['req.headers.authorization'] }, pino.destination(2));
      const control = new Control(database, log, new Events(database.db, database.engine));
      await control.#begin(options, setting);
      return control;
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  async #begin({ directory, host, port, names }: ControlOptions, setting: string): Promise<void> {
    const { database, events, log } = this;
    const authority = await Authority.of(database);
    const all = [...new Set([os.hostname(), 'localhost', '127.0.0.1', '::1', ...(host === '0.0.0.0' || host === '::' ? [] : [host]), ...names])];
    const identity = await authority.identity({ commonName: 'lunfs control plane', uri: CONTROL_URI, dns: all.filter((name) => isIP(name) === 0), ip: all.filter((name) => isIP(name) !== 0) });
    const { version } = JSON.parse(fs.readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
    this.#app = await buildApp({
      database, events, identity, version, log, closing: this.#closing.signal, committed: () => this.#engine?.wake(), more: () => undefined,
      waitsFor: () => (this.#closing.signal.aborted ? 'it is about to end' : undefined),
    });
    try {
      await this.#app.listen({ host, port });
    } catch (cause) {
      throw new IoError('LISTEN', `cannot listen on ${host}:${port}: ${(cause as Error).message}`, { host, port }, cause);
    }
    const address = this.#app.server.address() as { port: number };
    const reached = names[0] ?? (host === '0.0.0.0' || host === '::' ? os.hostname() : host);
    this.url = `https://${reached.includes(':') ? `[${reached}]` : reached}:${address.port}`;
    await this.#firstClient(path.join(directory, 'client.json'), authority.certificate);
    this.#stopForgetting = every(FORGET_MS, () => void forgetOld(database.db).catch((error: unknown) => log.warn({ err: error }, 'old answers are not forgotten')));
    this.#leading = leadWhenElected(setting, { serve: (lost) => this.#lead(lost), log: (line) => log.info(line) }, this.#closing.signal);
  }

  /**
   * Where there is no user, an admin with a token in a file of his own; his password is nobody's until he sets one. The file is there before he is: a death between
   * the two leaves a file of no use, which the next start replaces, and never an admin that nobody can be.
   */
  async #firstClient(file: string, ca: string): Promise<void> {
    const password = await hashPassword(newSecret());
    let written = false;
    const made = await this.database.change(async (trx) => {
      const token = await firstAdmin(trx, password);
      if (token === undefined) return false;
      const context: ClientContext = { url: this.url, ca, token };
      fs.rmSync(file, { force: true });
      fs.writeFileSync(file, `${JSON.stringify(context, undefined, 2)}\n`, { mode: 0o600, flag: 'wx', flush: true });
      return written = true;
    });
    if (made) this.firstClient = file;
    // Another control plane on the same database was first.
    else if (written) fs.rmSync(file, { force: true });
  }

  async #lead(lost: AbortSignal): Promise<void> {
    while (!lost.aborted) {
      const failed = new AbortController();
      const over = AbortSignal.any([lost, failed.signal]);
      const engine = new TaskEngine({
        database: this.database, events: this.events, kinds: this.#kinds(), log: (line, fields) => this.log.warn(fields, line),
      });
      try {
        await engine.start((error) => {
          this.log.error({ err: error }, 'the tasks stand still');
          failed.abort();
        });
        this.#engine = engine;
        this.log.info('this control plane does the tasks');
        await new Promise<void>((resolve) => {
          if (over.aborted) resolve();
          over.addEventListener('abort', () => resolve(), { once: true });
        });
      } catch (error) {
        this.log.error({ err: error }, 'the tasks cannot be taken over yet');
      }
      this.#engine = undefined;
      await engine.stop();
      if (!lost.aborted) await pause(RETRY_MS, lost);
    }
  }

  #kinds(): StepKind[] {
    return [];
  }

  /** Requests that run are answered, tasks left for the next. */
  async stop(): Promise<void> {
    this.#closing.abort();
    this.#stopForgetting();
    await this.#app.close();
    await this.#leading;
    await this.database.close();
  }
}
