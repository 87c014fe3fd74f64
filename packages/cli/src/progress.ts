/**
 * Progress on stderr, from the first second on: a line that rewrites itself on a terminal, else a line every ten seconds. Tells what is
 * done, the rate, and the time left where the total is known.
 */
import { monotonicMs } from './clock.js';
import { formatDuration, formatSize } from './sizes.js';

const FIRST_MS = 1000;
const TERMINAL_MS = 200;
const PLAIN_MS = 10_000;

export class Progress {
  readonly #started = monotonicMs();
  readonly #terminal = process.stderr.isTTY === true;
  #stage = '';
  #stageStarted = this.#started;
  #shown = this.#started + FIRST_MS;
  #dirty = false;

  /** `unit`: what is counted, `bytes` or the name of items. */
  constructor(private readonly command: string, private readonly unit: string, private readonly quiet = false) {}

  /** Tell where we are. Cheap: call it often. */
  tell(stage: string, done: number, total?: number): void {
    if (this.quiet) return;
    const now = monotonicMs();
    if (stage !== this.#stage) [this.#stage, this.#stageStarted] = [stage, now];
    if (now < this.#shown) return;
    this.#shown = now + (this.#terminal ? TERMINAL_MS : PLAIN_MS);
    const line = `lunfs ${this.command}: ${this.#line(done, total, (now - this.#stageStarted) / 1000)}`;
    if (!this.#terminal) {
      process.stderr.write(`${line}\n`);
      return;
    }
    process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`);
    this.#dirty = true;
  }

  /** Clear the line, before other output and at the end. */
  end(): void {
    if (this.#dirty) process.stderr.write('\r\x1b[K');
    this.#dirty = false;
  }

  #line(done: number, total: number | undefined, seconds: number): string {
    const show = (n: number) => (this.unit === 'bytes' ? formatSize(n) : `${n} ${this.unit}`);
    const rate = seconds > 0 ? done / seconds : 0;
    const parts = [`${this.#stage} ${show(done)}`];
    if (total !== undefined && total > 0) parts[0] += ` of ${show(total)} (${Math.min(100, Math.floor((100 * done) / total))}%)`;
    if (rate > 0) parts.push(`${show(this.unit === 'bytes' ? Math.round(rate) : Math.round(rate * 10) / 10)}/s`);
    if (rate > 0 && total !== undefined && total > done) parts.push(`${formatDuration((total - done) / rate)} left`);
    return parts.join(', ');
  }
}
