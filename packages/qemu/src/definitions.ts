/** The guests that a host knows: one file per guest in a directory, written whole or not at all, readable and editable by hand. */
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError, UsageError } from '@lunfs/device';
import { type GuestDefinition, guestName, parseDefinition } from './definition.js';
import { readJson, writeJson } from './files.js';

const SUFFIX = '.json';

export class Definitions {
  constructor(readonly directory: string) {}

  /** In the order of their names. */
  names(): string[] {
    try {
      return fs.readdirSync(this.directory).filter((file) => file.endsWith(SUFFIX)).map((file) => path.basename(file, SUFFIX)).sort();
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw new IoError('GUEST_FILE', `cannot list the guests in ${this.directory}: ${(cause as Error).message}`, { directory: this.directory }, cause);
    }
  }

  /** Throws GUEST_UNKNOWN, GUEST_DEFINITION when the file was made by hand and is wrong. */
  get(name: string): GuestDefinition {
    const value = readJson(this.#file(name));
    if (value === undefined) throw new UsageError('GUEST_UNKNOWN', 'ENOENT', `no guest ${name} is defined on this host (lunfs guest list)`, { name });
    const definition = parseDefinition(value);
    if (definition.name !== name) throw new UsageError('GUEST_DEFINITION', 'EINVAL', `${this.#file(name)} defines a guest named ${definition.name}`, { name });
    return definition;
  }

  /** Add a guest, or give one that is known another definition where `replace` says so; it keeps its UUID then. Throws GUEST_EXISTS. */
  put(input: unknown, { replace }: { readonly replace: boolean }): GuestDefinition {
    const given = parseDefinition(input);
    const known = this.names().includes(given.name) ? this.get(given.name) : undefined;
    if (known !== undefined && !replace) throw new UsageError('GUEST_EXISTS', 'EEXIST', `guest ${given.name} is defined already; --replace gives it this definition`, { name: given.name });
    const hasUuid = typeof (input as { uuid?: unknown }).uuid === 'string';
    const definition = known === undefined || hasUuid ? given : parseDefinition({ ...(input as object), uuid: known.uuid });
    fs.mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    writeJson(this.#file(definition.name), definition);
    return definition;
  }

  /** Throws GUEST_UNKNOWN. */
  remove(name: string): void {
    if (!this.names().includes(name)) this.get(name);
    fs.rmSync(this.#file(name));
  }

  #file(name: string): string {
    return path.join(this.directory, `${guestName(name)}${SUFFIX}`);
  }
}
