/**
 * Hands: users' processes on the nodes of a cluster, kernel nodes and hosts of ours alike, that make system calls when told (hand.pl), one at
 * a time each. A shell command costs a kernel node under QEMU half a second; a call through a hand costs what the call costs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { KernelNode, KernelNodeOptions } from './machines.js';
import { type Cleanup, tempDir } from './temp.js';

const SCRIPT = path.join(import.meta.dirname, 'hand.pl');
// One number has two names.
const NAMES = new Map(Object.entries(os.constants.errno).filter(([name]) => name !== 'EWOULDBLOCK' && name !== 'ENOTSUP').map(([name, number]) => [number, name]));

export interface Answer {
  /** Name of the errno; absent: it went well. */
  readonly error?: string;
  readonly values: readonly string[];
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

export class Hand {
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #rest = '';
  #ended?: Error;

  /** `name`: in messages. */
  constructor(readonly name: string, private readonly to: Writable, from: Readable) {
    to.on('error', (error) => this.#end(error));
    from.on('error', (error) => this.#end(error));
    from.on('data', (part: Buffer) => this.#receive(part.toString('latin1')));
    from.on('close', () => this.#end(new Error(`${name}: its process ended`)));
  }

  /** Operations and their values are those of hand.pl. Rejects when the node or the process is gone. */
  call(operation: string, ...args: readonly (string | number)[]): Promise<Answer> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.to.write(`${[id, operation, ...args].join('\t')}\n`);
    });
  }

  /** A call that must go well: its values. */
  async must(operation: string, ...args: readonly (string | number)[]): Promise<readonly string[]> {
    const { error, values } = await this.call(operation, ...args);
    if (error !== undefined) throw new Error(`${this.name}: ${operation} ${args.join(' ')}: ${error}`);
    return values;
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) {
      const [id, errno, ...values] = line.split('\t');
      const waiting = this.#waiting.get(Number(id));
      this.#waiting.delete(Number(id));
      if (Number(errno) < 0) waiting?.reject(new Error(`${this.name}: ${values[0]}`));
      else waiting?.resolve({ error: errno === '0' ? undefined : (NAMES.get(Number(errno)) ?? errno), values });
    }
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
  }
}

/** Hands on this machine, in a mount of a host of ours. */
export function localHands(cleanup: Cleanup, name: string, directory: string, count: number): Hand[] {
  return Array.from({ length: count }, (_, i) => {
    const child: ChildProcess = spawn('perl', [SCRIPT, directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    cleanup.add(() => {
      child.kill('SIGKILL');
      return Promise.resolve();
    });
    return new Hand(`${name}.${i}`, child.stdin!, child.stdout!);
  });
}

/** Ports for the hands of a kernel node: make them before it boots, boot it with `options`, start the hands when the volume is mounted. */
export class KernelHands {
  readonly options: Pick<KernelNodeOptions, 'qemuArgs'>;
  readonly #ports: { readonly port: string; readonly connected: Promise<net.Socket> }[] = [];

  private constructor(private readonly name: string, cleanup: Cleanup, directory: string, count: number) {
    const qemuArgs: string[] = [];
    for (let i = 0; i < count; i++) {
      const port = `lunfs.hand${i}`;
      const socket = path.join(directory, port);
      const server = net.createServer();
      this.#ports.push({ port, connected: new Promise((resolve) => { server.once('connection', resolve); }) });
      server.listen(socket);
      cleanup.add(() => {
        server.close();
        return Promise.resolve();
      });
      qemuArgs.push('-chardev', `socket,id=hand${i},path=${socket}`, '-device', `virtserialport,chardev=hand${i},name=${port}`);
    }
    this.options = { qemuArgs };
  }

  static async prepare(cleanup: Cleanup, name: string, count: number): Promise<KernelHands> {
    const hands = new KernelHands(name, cleanup, tempDir(cleanup, 'hands'), count);
    await new Promise((resolve) => { setImmediate(resolve); }); // servers listen
    return hands;
  }

  async start(kernel: KernelNode, directory: string): Promise<Hand[]> {
    await kernel.must('cat > /tmp/hand.pl', { input: fs.readFileSync(SCRIPT) });
    return await Promise.all(this.#ports.map(async ({ port, connected }, i) => {
      await kernel.must(`setsid perl /tmp/hand.pl ${directory} ${port} < /dev/null > /tmp/${port} 2>&1 &`);
      const socket = await connected;
      return new Hand(`${this.name}.${i}`, socket, socket);
    }));
  }
}
