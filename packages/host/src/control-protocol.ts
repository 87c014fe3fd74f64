/**
 * The control socket of a volume process: a Unix socket of mode 0600 in a directory of mode 0700, lines of JSON. A request is
 * `{"id": 1, "method": "export", "params": {…}}`; it is answered by any number of `{"id": 1, "progress": {"done": n, "total": m}}` and one
 * `{"id": 1, "result": …}` or `{"id": 1, "error": {…}}`. Requests of one connection may overlap.
 */
import { ERRNO, type ErrnoName, type ErrorKind, type ErrorFields, LunfsError, UsageError } from '@lunfs/device';

/** Longest line either side accepts: a disk's extents may be many. */
export const LINE_MAX = 64 << 20;

export interface Request {
  readonly id: number;
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** An error as it crosses the socket. */
export interface WireError {
  readonly kind: ErrorKind;
  readonly code: string;
  readonly errno: ErrnoName;
  readonly message: string;
  readonly fields: ErrorFields;
}

export type Response =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: WireError }
  | { readonly id: number; readonly progress: { readonly done: number; readonly total: number } };

export function toWire(error: unknown): WireError {
  if (error instanceof LunfsError) {
    const fields = Object.fromEntries(Object.entries(error.fields).map(([name, value]) => [name, typeof value === 'bigint' ? value.toString() : value]));
    return { kind: error.kind, code: error.code, errno: error.errno, message: error.message, fields };
  }
  const { code, message } = error as NodeJS.ErrnoException;
  return { kind: 'internal', code: code ?? 'INTERNAL', errno: code !== undefined && code in ERRNO ? (code as ErrnoName) : 'EIO', message: message ?? String(error), fields: {} };
}

export function fromWire({ kind, code, errno, message, fields }: WireError): LunfsError {
  return new LunfsError(kind, code, errno, message, fields);
}

/** Calls `line` for each line in what arrives; throws CONTROL_LINE when one is too long. */
export function lineSplitter(line: (text: string) => void): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let length = 0;
  return (chunk) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, at));
      const text = Buffer.concat(parts).toString();
      parts = [];
      length = 0;
      from = at + 1;
      line(text);
    }
    parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > LINE_MAX) throw new UsageError('CONTROL_LINE', 'EPROTO', `a line of more than ${LINE_MAX} bytes on a control socket`);
  };
}

/** A request's parameters, each checked as it is taken. Errors: CONTROL_PARAMS. */
export class Params {
  constructor(private readonly method: string, private readonly values: Readonly<Record<string, unknown>>) {}

  string(name: string): string {
    return this.#need(name, this.optionalString(name));
  }
  number(name: string): number {
    return this.#need(name, this.optionalNumber(name));
  }
  optionalString(name: string): string | undefined {
    return this.#typed(name, 'string') as string | undefined;
  }
  optionalNumber(name: string): number | undefined {
    const value = this.#typed(name, 'number') as number | undefined;
    if (value !== undefined && !Number.isSafeInteger(value)) throw this.#wrong(name, 'a whole number');
    return value;
  }
  boolean(name: string): boolean | undefined {
    return this.#typed(name, 'boolean') as boolean | undefined;
  }
  /** A nested object's parameters. */
  object(name: string): Params | undefined {
    const value = this.#typed(name, 'object') as Record<string, unknown> | undefined;
    return value && new Params(`${this.method}.${name}`, value);
  }
  /** A list of strings. */
  strings(name: string): string[] | undefined {
    const value = this.values[name];
    if (value === undefined || value === null) return undefined;
    if (!Array.isArray(value) || !value.every((one) => typeof one === 'string')) throw this.#wrong(name, 'a list of strings');
    return value;
  }
  oneOf<T extends string>(name: string, choices: readonly T[]): T {
    const value = this.string(name);
    const found = choices.find((one) => one === value);
    if (found === undefined) throw this.#wrong(name, `one of ${choices.join(', ')}`);
    return found;
  }

  #typed(name: string, type: 'string' | 'number' | 'boolean' | 'object'): unknown {
    const value = this.values[name];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== type) throw this.#wrong(name, `a ${type}`);
    return value;
  }
  #need<T>(name: string, value: T | undefined): T {
    if (value === undefined) throw this.#wrong(name, 'given');
    return value;
  }
  #wrong(name: string, what: string): UsageError {
    return new UsageError('CONTROL_PARAMS', 'EINVAL', `${this.method}: parameter ${name} must be ${what}`, { method: this.method, name });
  }
}
