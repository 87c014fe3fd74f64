/**
 * What this host is to have mounted, whatever happens to lunfsd or to the host: one file in the state directory, read when lunfsd starts and written
 * anew, as a whole, with every change (a temporary file, fsync, rename, fsync of the directory), before whoever asked for the change is answered.
 *
 * A declaration names a volume by its UUID; the device is only where it was seen last. One with `boot` ends with that boot of the host: it brings a
 * mount back after lunfsd has died, while /etc/fstab says what comes after a reboot. One with `unmounted` was unmounted by umount(8) in that boot:
 * it rests until the next one, as a line of /etc/fstab does.
 *
 * Nothing in the file is trusted. A file that is not understood in every part stops lunfsd by name: to go on without it would leave guests without
 * their disks and nobody told why, to write it anew would lose what it said.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError, UsageError } from '@lunfs/device';
import { runDirectory } from '../run-directory.js';

const KIND = 'lunfs mounts';
const VERSION = 1;
const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** Hosts have few volumes; a longer file is not ours. */
const FILE_MAX = 1 << 20;

export interface Declaration {
  /** 32 hex digits, upper case. */
  readonly uuid: string;
  /** Where the volume was seen last; absolute. */
  readonly device: string;
  /** Absolute. */
  readonly directory: string;
  readonly allowOther: boolean;
  /** Nothing is to be written to the directory while it is not mounted. */
  readonly seal: boolean;
  /** The kernel's mount options. */
  readonly options: readonly string[];
  /** Only for the boot of this id. */
  readonly boot?: string;
  /** Unmounted by hand in the boot of this id. */
  readonly unmounted?: string;
}

/** `/var/lib/lunfs`; in a directory of their own for several lunfsd on one machine (`--data`, LUNFS_RUN_DIR). */
export function stateDirectory(given?: string, env: NodeJS.ProcessEnv = process.env): string {
  return path.resolve(given ?? (env.LUNFS_RUN_DIR === undefined ? '/var/lib/lunfs' : path.join(runDirectory(env), 'state')));
}

/** This boot of the host. */
export function bootId(): string {
  return fs.readFileSync(BOOT_ID, 'utf8').trim();
}

export class DeclaredState {
  #mounts: readonly Declaration[] = [];
  /** Writes go one after the other. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(readonly file: string, readonly boot: string) {}

  /** Reads what is declared, without what earlier boots have ended. Throws STATE_READ, STATE_BROKEN. */
  static open(directory: string, boot = bootId()): DeclaredState {
    const state = new DeclaredState(path.join(directory, 'mounts.json'), boot);
    let text: string;
    try {
      fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
      if ((fs.statSync(state.file, { throwIfNoEntry: false })?.size ?? 0) > FILE_MAX) throw broken(state.file, `it is longer than ${FILE_MAX} bytes`);
      text = fs.readFileSync(state.file, 'utf8');
    } catch (cause) {
      if (cause instanceof UsageError) throw cause;
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT' && fs.existsSync(directory)) return state;
      throw new IoError('STATE_READ', `${state.file}, which says what this host is to have mounted, cannot be read: ${(cause as Error).message}. Mend that, or choose another directory (lunfs up --state-dir)`, { file: state.file }, cause);
    }
    state.#mounts = parse(state.file, text)
      .filter((one) => one.boot === undefined || one.boot === boot)
      .map(({ unmounted, ...one }) => (unmounted === boot ? { ...one, unmounted } : one));
    return state;
  }

  get mounts(): readonly Declaration[] {
    return this.#mounts;
  }

  of(uuid: string): Declaration | undefined {
    return this.#mounts.find((one) => one.uuid === uuid);
  }

  /** Declare a volume, in the place of what was declared of it. Resolves when that is durable; throws STATE_WRITE, and then nothing has changed. */
  put(mount: Declaration): Promise<void> {
    return this.#change((mounts) => [...mounts.filter(({ uuid }) => uuid !== mount.uuid), mount]);
  }

  /** Forget a volume. */
  remove(uuid: string): Promise<void> {
    return this.#change((mounts) => mounts.filter((one) => one.uuid !== uuid));
  }

  /** Somebody has unmounted it by umount(8): it rests until the next boot, or is over with this one. */
  async unmounted(uuid: string): Promise<void> {
    const found = this.of(uuid);
    if (found === undefined) return;
    await (found.boot === undefined ? this.put({ ...found, unmounted: this.boot }) : this.remove(uuid));
  }

  #change(how: (mounts: readonly Declaration[]) => readonly Declaration[]): Promise<void> {
    const writing = this.#writing.then(async () => {
      const next = how(this.#mounts);
      await this.#write(`${JSON.stringify({ kind: KIND, version: VERSION, mounts: next }, undefined, 2)}\n`);
      this.#mounts = next;
    });
    this.#writing = writing.catch(() => undefined);
    return writing;
  }

  async #write(text: string): Promise<void> {
    const temporary = `${this.file}.new`;
    try {
      const file = await fs.promises.open(temporary, 'w', 0o600);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await fs.promises.rename(temporary, this.file);
      const directory = await fs.promises.open(path.dirname(this.file), 'r');
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (cause) {
      throw new IoError('STATE_WRITE', `what this host is to have mounted cannot be kept in ${this.file}: ${(cause as Error).message}`, { file: this.file }, cause);
    }
  }
}

function broken(file: string, what: string): UsageError {
  return new UsageError('STATE_BROKEN', 'EINVAL',
    `${file}, which says what this host is to have mounted, is broken: ${what}. Mend it, or move it away, start lunfsd again and mount each volume once more (lunfs mount)`, { file });
}

/** Throws STATE_BROKEN unless all of it is understood. */
function parse(file: string, text: string): Declaration[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw broken(file, `it is no JSON (${(error as Error).message})`);
  }
  const { kind, version, mounts, ...more } = asObject(file, 'the file', value);
  if (kind !== KIND) throw broken(file, `"kind" is not "${KIND}"`);
  if (version !== VERSION) throw broken(file, `its version is ${JSON.stringify(version)}, this lunfsd reads ${VERSION} (a newer lunfs may have written it)`);
  if (!Array.isArray(mounts)) throw broken(file, '"mounts" is no list');
  nothingMore(file, 'the file', more);
  const found = mounts.map((one, i) => declaration(file, `mount ${i + 1}`, one));
  for (const key of ['uuid', 'directory'] as const) {
    const twice = found.find((one, i) => found.findIndex((other) => other[key] === one[key]) < i);
    if (twice !== undefined) throw broken(file, `${key} ${twice[key]} is there twice`);
  }
  return found;
}

function declaration(file: string, where: string, value: unknown): Declaration {
  const { uuid, device, directory, allowOther, seal, options, boot, unmounted, ...more } = asObject(file, where, value);
  nothingMore(file, where, more);
  if (typeof uuid !== 'string' || !/^[0-9A-F]{32}$/.test(uuid)) throw broken(file, `${where}: "uuid" is not 32 hex digits in upper case`);
  const absolute = (name: string, text: unknown): string => {
    if (typeof text !== 'string' || !path.isAbsolute(text) || text.includes('\0')) throw broken(file, `${where}: "${name}" is no absolute path`);
    return text;
  };
  if (typeof allowOther !== 'boolean') throw broken(file, `${where}: "allowOther" is neither true nor false`);
  if (typeof seal !== 'boolean') throw broken(file, `${where}: "seal" is neither true nor false`);
  if (!Array.isArray(options) || !options.every((one) => typeof one === 'string' && /^[a-z_]+(=[\w.:/-]+)?$/.test(one))) throw broken(file, `${where}: "options" is no list of mount options`);
  const id = (name: string, text: unknown): string | undefined => {
    if (text !== undefined && (typeof text !== 'string' || !/^[0-9a-f-]{1,64}$/.test(text))) throw broken(file, `${where}: "${name}" is no id of a boot`);
    return text;
  };
  return { uuid, device: absolute('device', device), directory: absolute('directory', directory), allowOther, seal, options: options as string[], boot: id('boot', boot), unmounted: id('unmounted', unmounted) };
}

function asObject(file: string, where: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw broken(file, `${where} is no object`);
  return value as Record<string, unknown>;
}

function nothingMore(file: string, where: string, more: object): void {
  const [name] = Object.keys(more);
  if (name !== undefined) throw broken(file, `${where}: "${name}" means nothing to this lunfsd`);
}
