/** The agent of the test machines (scripts/lib/machine/agent.sh) on a virtio port of a guest that `lunfs guest` runs. */
import net from 'node:net';

export class GuestAgent {
  #socket: net.Socket | undefined;
  #received = Buffer.alloc(0);
  #next = 1;
  #onReady = (): void => undefined;
  readonly #waiting = new Map<number, (result: { status: number; stdout: string; stderr: string }) => void>();

  /** Connects; resolves at once when the agent of the guest is up already (`ready: false`), else at its first word. */
  async connect(socketPath: string, { ready }: { readonly ready: boolean }): Promise<void> {
    this.#socket?.destroy();
    const socket = net.connect(socketPath);
    this.#socket = socket;
    this.#received = Buffer.alloc(0);
    const greeted = new Promise<void>((resolve) => {
      this.#onReady = resolve;
    });
    socket.on('error', () => undefined);
    socket.on('data', (part: Buffer) => this.#receive(part));
    await new Promise<void>((resolve) => void socket.once('connect', resolve));
    if (ready) await greeted;
  }

  /** The agent's next first word, after a reset. */
  nextReady(): Promise<void> {
    return new Promise((resolve) => {
      this.#onReady = resolve;
    });
  }

  /** Runs a bash command line; rejects on any status but 0. Resolves to its standard output. */
  async must(command: string): Promise<string> {
    const id = this.#next++;
    const text = Buffer.from(command);
    const { status, stdout, stderr } = await new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
      this.#waiting.set(id, resolve);
      this.#socket!.write(Buffer.concat([Buffer.from(`${id} ${text.length} 0\n`), text]));
    });
    if (status !== 0) throw new Error(`in the guest: ${command}: status ${status}\n${stderr}${stdout}`);
    return stdout;
  }

  close(): void {
    this.#socket?.destroy();
  }

  #receive(part: Buffer): void {
    this.#received = Buffer.concat([this.#received, part]);
    for (;;) {
      const end = this.#received.indexOf(10);
      if (end < 0) return;
      const words = this.#received.toString('latin1', 0, end).split(' ');
      if (words[0] === 'ready') {
        this.#received = this.#received.subarray(end + 1);
        this.#onReady();
        continue;
      }
      const [id, status, out, err] = words.map(Number);
      const length = end + 1 + out + err;
      if (this.#received.length < length) return;
      const result = { status, stdout: this.#received.toString('utf8', end + 1, end + 1 + out), stderr: this.#received.toString('utf8', end + 1 + out, length) };
      this.#received = this.#received.subarray(length);
      this.#waiting.get(id)?.(result);
      this.#waiting.delete(id);
    }
  }
}
