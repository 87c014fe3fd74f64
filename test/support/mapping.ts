/** Files mapped shared by processes of this machine (mapping.pl). */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import type { Readable, Writable } from 'node:stream';
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
