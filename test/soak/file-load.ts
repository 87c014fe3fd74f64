/**
 * Load of one user on a directory of a mount, with a memory of what was promised: a file is as it was at its last fsync, or
 * as something done since has made it. Contents follow from a seed and a length, so nothing big is remembered.
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Random } from '@lunfs/device';

/** A file's content by a seed, of a length between two bounds (an append that was under way); undefined: no file. */
type Version = { readonly seed: number; readonly min: number; readonly max: number } | undefined;

interface Known {
  durable: Version;
  /** What may be there as well, oldest first. */
  since: Version[];
}

const NAMES = 40;

export function content(seed: number, from: number, to: number): Buffer {
  const out = Buffer.alloc(to - from);
  for (let i = 0; i < out.length; i++) out[i] = ((from + i) * 31 + seed * 17 + ((from + i) >> 9)) & 0xff;
  return out;
}

export class FileLoad {
  readonly #files = new Map<string, Known>();
  #seed = 0;
  operations = 0;
  promises = 0;

  constructor(private readonly random: Random, private readonly mountPoint: string, readonly name: string) {}

  get #dir(): string {
    return path.join(this.mountPoint, this.name);
  }

  async begin(): Promise<void> {
    await fs.mkdir(this.#dir, { recursive: true });
    await this.#sync(this.mountPoint);
  }

  /** One thing a user does. */
  async step(): Promise<void> {
    const { random } = this;
    this.operations++;
    const name = `f${random.int(NAMES)}`, dice = random.int(20);
    if (dice < 8) await this.#replace(name);
    else if (dice < 11) await this.#remove(name);
    else if (dice < 17) await this.#append(name);
    else await this.#scratch();
  }

  /** Throws unless every file is one that its promises allow. */
  async verify(): Promise<void> {
    const listed = new Set(await fs.readdir(this.#dir));
    for (const [name, known] of this.#files) {
      const found = listed.has(name) ? await fs.readFile(path.join(this.#dir, name)) : undefined;
      const match = [known.durable, ...known.since].find((version) => fits(found, version));
      if (match === undefined && found !== undefined) throw new Error(`${this.name}/${name}: ${found.length} bytes are none of ${JSON.stringify(known)}`);
      if (found === undefined && known.durable !== undefined && !known.since.includes(undefined)) throw new Error(`${this.name}/${name} is missing: ${JSON.stringify(known)}`);
      // What is there now was recovered, which is as good as promised.
      known.durable = match && { seed: match.seed, min: found!.length, max: found!.length };
      known.since = [];
    }
    for (const name of listed) if (!this.#files.has(name) && /^f\d+$/.test(name)) throw new Error(`${this.name}/${name} is there, nobody made it`);
  }

  /** The bytes of some file that was promised, if there is one. */
  sample(): { readonly name: string; readonly bytes: Buffer } | undefined {
    const all = [...this.#files].flatMap(([name, { durable, since }]) => (durable !== undefined && since.length === 0 ? [{ name, ...durable }] : []));
    if (all.length === 0) return undefined;
    const { name, seed, max } = this.random.pick(all);
    return { name, bytes: content(seed, 0, max) };
  }

  /** A new file takes the name, as editors save. */
  async #replace(name: string): Promise<void> {
    const seed = ++this.#seed, length = this.random.int(this.random.chance(0.1) ? 3_000_000 : 30_000);
    const temporary = path.join(this.#dir, `new-${name}`);
    const handle = await fs.open(temporary, 'w');
    try {
      await handle.write(content(seed, 0, length));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await this.#change(name, { seed, min: length, max: length }, () => fs.rename(temporary, path.join(this.#dir, name)));
  }

  async #remove(name: string): Promise<void> {
    const known = this.#files.get(name);
    if (known === undefined || latest(known) === undefined) return;
    await this.#change(name, undefined, () => fs.unlink(path.join(this.#dir, name)));
  }

  /** A change of a name, durable with its directory more often than not. */
  async #change(name: string, version: Version, work: () => Promise<void>): Promise<void> {
    const known = this.#files.get(name) ?? { durable: undefined, since: [] };
    this.#files.set(name, known);
    known.since.push(version);
    await work();
    if (this.random.chance(0.4)) return;
    await this.#sync(this.#dir);
    this.promises++;
    known.durable = version;
    known.since = [];
  }

  async #append(name: string): Promise<void> {
    const known = this.#files.get(name);
    const last = known && latest(known);
    if (known === undefined || last === undefined || last.min !== last.max) return;
    const longer = { seed: last.seed, min: last.min, max: last.max + 1 + this.random.int(50_000) };
    known.since.push(longer);
    const handle = await fs.open(path.join(this.#dir, name), 'a');
    try {
      await handle.write(content(longer.seed, longer.min, longer.max));
      await handle.sync();
    } finally {
      await handle.close();
    }
    // The data is durable; which of the names before is, only the directory's fsync says.
    const whole = { ...longer, min: longer.max };
    known.since = known.since.map((version) => (version === longer ? whole : version));
    if (known.since.length > 1) return;
    this.promises++;
    known.durable = whole;
    known.since = [];
  }

  /** A tree that comes and goes and is promised nothing. */
  async #scratch(): Promise<void> {
    const dir = path.join(this.#dir, 'scratch');
    await fs.rm(dir, { recursive: true, force: true });
    await fs.mkdir(dir);
    for (let i = 0; i < 15; i++) await fs.writeFile(path.join(dir, `${i}-${'n'.repeat(i * 9)}`), content(i, 0, i * 300));
    await fs.symlink('15', path.join(dir, 'link'));
    await fs.link(path.join(dir, '3-' + 'n'.repeat(27)), path.join(dir, 'three'));
    await fs.truncate(path.join(dir, 'three'), 100_000);
  }

  async #sync(dir: string): Promise<void> {
    const handle = await fs.open(dir, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

/** What the file is for those who look at it now. */
function latest({ durable, since }: Known): Version {
  return since.length > 0 ? since.at(-1) : durable;
}

function fits(found: Buffer | undefined, version: Version): boolean {
  if (found === undefined || version === undefined) return found === version;
  return found.length >= version.min && found.length <= version.max && content(version.seed, 0, found.length).equals(found);
}
