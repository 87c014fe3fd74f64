/** What has happened, as a hash by which two runs are compared, and the last lines of it for who looks for a fault. */
import { createHash } from 'node:crypto';
import type { VirtualTime } from './time.js';

/** Lines that are kept. */
const KEPT = 4000;

export class Trace {
  /** Rules that were broken, in order. */
  readonly violations: string[] = [];
  readonly #hash = createHash('sha256');
  readonly #lines: string[] = [];
  #next = 0;
  #ended = false;

  /** `print`: is given every line. */
  constructor(private readonly time: VirtualTime, private readonly print?: (line: string) => void) {}

  note(what: string): void {
    if (this.#ended) return;
    const line = `${this.time.now().toFixed(3)} ${what}`;
    this.#hash.update(line);
    this.#lines[this.#next++ % KEPT] = line;
    this.print?.(line);
  }

  /** A rule is broken: the simulation ends. */
  violation(what: string): void {
    this.note(`VIOLATION ${what}`);
    this.violations.push(`${this.time.now().toFixed(3)} ms: ${what}`);
  }

  /** The last lines, the oldest first. */
  tail(): string[] {
    const from = Math.max(0, this.#next - KEPT);
    return Array.from({ length: this.#next - from }, (_, i) => this.#lines[(from + i) % KEPT]);
  }

  /** Of all lines; ends the trace. */
  digest(): string {
    this.#ended = true;
    return this.#hash.digest('hex');
  }
}
