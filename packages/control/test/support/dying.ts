/**
 * A control plane that dies at a chosen moment, within one process: from then on its database takes nothing and its hands do nothing. Moments are counted: each
 * query, each commit (before it, and after it with the answer lost), each effect on the world.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { DatabaseConnection, Dialect, Driver } from 'kysely';

export class Death extends Error {}

export class Mortal {
  #moments = 0;
  readonly #observing = new AsyncLocalStorage<true>();

  /** Dies at this moment; undefined: never. */
  constructor(private readonly at?: number) {}

  get dead(): boolean {
    return this.at !== undefined && this.#moments >= this.at;
  }

  get moments(): number {
    return this.#moments;
  }

  /** What the test looks at or changes itself, with the same database: it is no moment, and death does not stop it. */
  observe<T>(work: () => Promise<T>): Promise<T> {
    return this.#observing.run(true, work);
  }

  /** A moment passes. Throws Death. */
  live(): void {
    if (this.#observing.getStore() === true) return;
    if (!this.dead) this.#moments++;
    if (this.dead) throw new Death(`dead since moment ${this.at}`);
  }

  /** Wraps a dialect so that its work is counted, and nothing of it happens after death. */
  readonly dialect = (inner: Dialect): Dialect => ({
    createAdapter: () => inner.createAdapter(),
    createIntrospector: (db) => inner.createIntrospector(db),
    createQueryCompiler: () => inner.createQueryCompiler(),
    createDriver: () => this.#driver(inner.createDriver()),
  });

  #driver(inner: Driver): Driver {
    const real = new WeakMap<DatabaseConnection, DatabaseConnection>();
    const of = (connection: DatabaseConnection): DatabaseConnection => real.get(connection)!;
    return {
      init: () => inner.init(),
      acquireConnection: async () => {
        const connection = await inner.acquireConnection();
        const mortal: DatabaseConnection = {
          executeQuery: (query) => {
            this.live();
            return connection.executeQuery(query);
          },
          streamQuery: (query, size) => connection.streamQuery(query, size),
        };
        real.set(mortal, connection);
        return mortal;
      },
      beginTransaction: (connection, settings) => {
        this.live();
        return inner.beginTransaction(of(connection), settings);
      },
      commitTransaction: async (connection) => {
        this.live();
        await inner.commitTransaction(of(connection));
        this.live();
      },
      // What the database does of itself when its client is gone. After a commit whose answer was lost there is nothing to roll back.
      rollbackTransaction: (connection) => inner.rollbackTransaction(of(connection)).catch(() => undefined),
      releaseConnection: (connection) => inner.releaseConnection(of(connection)),
      destroy: () => inner.destroy(),
    };
  }
}
