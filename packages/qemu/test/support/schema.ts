/** What the installed QEMU takes, by its own query-qmp-schema: whether a command exists and its arguments fit, all the way down. */
import { isObject } from '../../src/qmp/message.js';

interface Entry {
  readonly name: string;
  readonly 'meta-type': string;
  readonly 'arg-type'?: string;
  readonly members?: readonly { readonly name?: string; readonly type: string; readonly default?: unknown }[];
  readonly values?: readonly string[];
  readonly 'element-type'?: string;
  readonly 'json-type'?: string;
  readonly tag?: string;
  readonly variants?: readonly { readonly case: string; readonly type: string }[];
}

export class QmpSchema {
  readonly #entries: ReadonlyMap<string, Entry>;

  constructor(schema: unknown) {
    this.#entries = new Map((schema as Entry[]).map((one) => [one.name, one]));
  }

  /** Objections to a command, none when QEMU takes it. */
  checkCommand(command: string, args: unknown): string[] {
    const entry = this.#entries.get(command);
    if (entry?.['meta-type'] !== 'command') return [`${command}: no such command`];
    // device_add takes the properties of its device as well, which the schema leaves open: QEMU itself refuses those it does not know.
    if (command === 'device_add') return isObject(args) && typeof args.driver === 'string' ? [] : ['device_add: no driver'];
    return this.#check(args ?? {}, entry['arg-type'] ?? '', command);
  }

  #check(value: unknown, type: string, at: string): string[] {
    const entry = this.#entries.get(type);
    if (entry === undefined) return [`${at}: no type ${type}`];
    switch (entry['meta-type']) {
      case 'builtin':
        return this.#builtin(value, entry, at);
      case 'enum':
        return entry.values?.includes(String(value)) || (entry.members as { name: string }[] | undefined)?.some(({ name }) => name === value) ? [] : [`${at}: ${String(value)} is none of ${type}`];
      case 'array':
        return Array.isArray(value) ? value.flatMap((one, i) => this.#check(one, entry['element-type']!, `${at}[${i}]`)) : [`${at}: no array`];
      case 'alternate': {
        const all = entry.members!.map((member) => this.#check(value, member.type, at));
        return all.some((objections) => objections.length === 0) ? [] : all[0];
      }
      case 'object':
        return this.#object(value, entry, at);
      default:
        return [`${at}: ${entry['meta-type']} is no type of arguments`];
    }
  }

  #object(value: unknown, entry: Entry, at: string): string[] {
    if (!isObject(value)) return [`${at}: no object`];
    const variant = entry.variants?.find((one) => one.case === value[entry.tag!]);
    const members = [...(entry.members ?? []), ...(variant === undefined ? [] : (this.#entries.get(variant.type)?.members ?? []))];
    const objections = members.filter((one) => !('default' in one) && value[one.name!] === undefined).map((one) => `${at}: ${one.name} is missing`);
    for (const [name, inner] of Object.entries(value)) {
      const member = members.find((one) => one.name === name);
      if (member === undefined) objections.push(`${at}: has no member ${name}`);
      else if (inner !== undefined) objections.push(...this.#check(inner, member.type, `${at}.${name}`));
    }
    return objections;
  }

  #builtin(value: unknown, entry: Entry, at: string): string[] {
    const kind = entry['json-type'];
    const fits = kind === 'int' ? Number.isSafeInteger(value) : kind === 'null' ? value === null : kind === 'any' || typeof value === kind;
    return fits ? [] : [`${at}: ${String(value)} is no ${kind}`];
  }
}
