/** The test's side of a member of the cluster that has no file system (member.mjs): orders go in, what it says is kept. */
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import type { ClusterLab, LabHost } from '../support/cluster-lab.js';

export interface Said {
  event: string;
  /** Milliseconds since the member began. */
  at: number;
  id?: number;
  node?: number;
  code?: string;
  message?: string;
  result?: unknown;
  /** Of what locks hear. */
  lock?: number;
  lvb?: string;
  wanted?: number;
}

export class Member {
  readonly said: Said[] = [];
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #words = '';
  #ids = 0;
  #waiting: (() => void)[] = [];

  /** `uuid`: of the volume, and `regionOffset`: where its heartbeat file begins. `dlm`: it has a lock manager. `idleMs`: what it believes of the idle timeout, unlike the lab. */
  constructor(host: LabHost, lab: ClusterLab, { uuid, regionOffset, dlm = false, idleMs }: { uuid: string; regionOffset: number; dlm?: boolean; idleMs?: number }) {
    const { threshold = 31, idleMs: clusterIdleMs = 30_000 } = lab.config.settings ?? {};
    const settings = { heartbeatThreshold: threshold, idleTimeoutMs: idleMs ?? clusterIdleMs, keepaliveDelayMs: 2_000, reconnectDelayMs: 2_000 };
    const facts = { number: host.number, nodes: lab.config.nodes, settings, device: host.device, region: uuid, regionOffset, sectorSize: 512, dlm };
    this.#child = host.spawn(process.execPath, [path.join(import.meta.dirname, 'member.mjs'), JSON.stringify(facts)], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr!.on('data', (part) => (this.#words += String(part)));
    this.#exited = new Promise((resolve) => this.#child.once('close', resolve));
    const wake = (): void => {
      for (const one of this.#waiting.splice(0)) one();
    };
    void this.#exited.then(wake);
    readline.createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      this.said.push(JSON.parse(line) as Said);
      wake();
    });
  }

  /** Resolves with the first of what was said since `from` that fits. Rejects when it has ended, or after two minutes. */
  async heard(what: Partial<Said>, from = 0): Promise<Said> {
    const end = Date.now() + 120_000;
    for (;;) {
      const found = this.said.slice(from).find((one) => Object.entries(what).every(([key, value]) => one[key as keyof Said] === value));
      if (found) return found;
      if (Date.now() > end || this.#child.exitCode !== null) throw new Error(`never said ${JSON.stringify(what)}: ${JSON.stringify(this.said, null, 1)}\n${this.#words}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1_000);
        this.#waiting.push(() => { clearTimeout(timer); resolve(); });
      });
    }
  }

  /** Gives an order; resolves with its answer. */
  async ask(order: object): Promise<unknown> {
    const id = this.#ids++;
    this.#child.stdin!.write(`${JSON.stringify({ id, ...order })}\n`);
    return (await this.heard({ event: 'answer', id })).result;
  }

  /** Leaves the cluster in good order and ends. */
  async leave(): Promise<void> {
    await this.ask({ op: 'leave' });
    await this.#exited;
  }

  /** Dies without a word. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  notices(from = 0): (string | undefined)[] {
    return this.said.slice(from).filter(({ event }) => event === 'notice').map(({ code }) => code);
  }
}
