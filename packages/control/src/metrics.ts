/** What Prometheus may ask: requests by operation and status, tasks by state, and Node's own figures. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import type { Db } from './db/schema.js';

export class Metrics {
  readonly #registry = new Registry();
  readonly #requests = new Counter({ name: 'lunfs_control_requests_total', help: 'Requests answered', labelNames: ['operation', 'status'] as const, registers: [this.#registry] });
  readonly #seconds = new Histogram({ name: 'lunfs_control_request_seconds', help: 'Time to the answer', labelNames: ['operation'] as const, buckets: [0.005, 0.02, 0.1, 0.5, 2, 10], registers: [this.#registry] });

  constructor(db: Db) {
    collectDefaultMetrics({ register: this.#registry });
    for (const [table, help] of [['tasks', 'Tasks by state']] as const) {
      new Gauge({
        name: `lunfs_control_${table}`, help, labelNames: ['status'] as const, registers: [this.#registry],
        async collect() {
          this.reset();
          const rows = await db.selectFrom(table).select(['status', (e) => e.fn.countAll<number | string>().as('count')]).groupBy('status').execute();
          for (const { status, count } of rows) this.set({ status }, Number(count));
        },
      });
    }
  }

  answered(operation: string, status: number, ms: number): void {
    this.#requests.inc({ operation, status });
    this.#seconds.observe({ operation }, ms / 1000);
  }

  get type(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
