/** Files mapped shared by processes of this machine and of kernel nodes (mapping.pl). */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { KernelNode } from './machines.js';
import type { Cleanup } from './temp.js';

export const MAPPING_SCRIPT = path.resolve(import.meta.dirname, 'mapping.pl');
const [major, minor] = fs.readFileSync('/proc/sys/kernel/osrelease', 'latin1').split('.').map(Number);
/** Linux maps files of a member's mount shared since 6.6 (FUSE_DIRECT_IO_ALLOW_MMAP). */
export const canMap = major > 6 || (major === 6 && minor >= 6);

/** A process of this machine that has a file mapped. */
export class Mapping {
  readonly #answers: AsyncIterator<string>;

  private constructor(private readonly child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#answers = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  static async of(cleanup: Cleanup, file: string, bytes: number, readOnly = false): Promise<Mapping> {
    const child = spawn('perl', [MAPPING_SCRIPT, file, String(bytes), ...(readOnly ? ['ro'] : [])], { stdio: ['pipe', 'pipe', 'inherit'] });
    cleanup.add(async () => void child.kill('SIGKILL'));
    const mapping = new Mapping(child);
    await mapping.#answer();
    return mapping;
  }

  /** Answer to a command. */
  ask(command: string): Promise<string> {
    this.child.stdin.write(`${command}\n`);
    return this.#answer();
  }

  async #answer(): Promise<string> {
    const next = await this.#answers.next();
    if (next.done === true) throw new Error('the process with the mapping has ended');
    return next.value;
  }
}

/** A process of a kernel node that has a file mapped. One at a time on a node. */
export class KernelMapping {
  #answers = 1;

  private constructor(private readonly kernel: KernelNode) {}

  /** Puts the script to /tmp/mapping.pl there. */
  static async of(kernel: KernelNode, file: string, bytes: number): Promise<KernelMapping> {
    await kernel.must('cat > /tmp/mapping.pl', { input: fs.readFileSync(MAPPING_SCRIPT) });
    await kernel.must(`rm -f /tmp/asked /tmp/answered; mkfifo /tmp/asked; (exec 9<>/tmp/asked; exec perl /tmp/mapping.pl ${file} ${bytes} <&9 >/tmp/answered 2>&1) </dev/null >/dev/null 2>&1 &`);
    const mapping = new KernelMapping(kernel);
    await mapping.#answer();
    return mapping;
  }

  async ask(command: string): Promise<string> {
    this.#answers++;
    await this.kernel.must(`echo '${command}' > /tmp/asked`);
    return this.#answer();
  }

  async #answer(): Promise<string> {
    return (await this.kernel.must(`i=0; until [ $(wc -l < /tmp/answered) -ge ${this.#answers} ]; do sleep 0.1; i=$((i+1)); [ $i -lt 600 ] || { cat /tmp/answered >&2; exit 1; }; done; sed -n ${this.#answers}p /tmp/answered`)).trimEnd();
  }
}
