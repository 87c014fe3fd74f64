/**
 * What commands print: facts on stdout, as text or as one JSON document; everything else on stderr. Names in a volume are bytes:
 * text shows them as they are, JSON as a string when they are UTF-8, and with their bytes in hex beside it when not.
 */
import * as fs from 'node:fs';
import { LunfsError } from '@lunfs/device';

/** Print a line (or several) of facts. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Print bytes, a newline after them. */
export function printBytes(...parts: (string | Uint8Array)[]): void {
  process.stdout.write(Buffer.concat([...parts.map((part) => Buffer.from(part as Uint8Array)), Buffer.from('\n')]));
}

/** One JSON document. bigint values become strings, bytes hex. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, jsonValue, 2));
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return value;
}

/** A remark for the operator; never part of the facts. */
export function note(command: string, text: string): void {
  process.stderr.write(`lunfs ${command}: ${text}\n`);
}

/** Columns, padded; those whose head begins with `>` are set right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const right = head.map((name) => name.startsWith('>'));
  const all = [head.map((name) => name.replace(/^>/, '')), ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all.map((row) => row.map((cell, i) => (right[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  ').trimEnd()).join('\n');
}

/** `Name:  value` lines, aligned; values that are undefined are left out. */
export function facts(pairs: readonly (readonly [string, string | number | undefined])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length)) + 2;
  return pairs.flatMap(([name, value]) => (value === undefined ? [] : [`${`${name}:`.padEnd(width)}${value}`])).join('\n');
}

/** A name or path for JSON. */
export function nameFact(key: string, name: Uint8Array): Record<string, string> {
  const buffer = Buffer.from(name);
  const text = buffer.toString();
  return Buffer.from(text).equals(buffer) ? { [key]: text } : { [key]: text, [`${key}Bytes`]: buffer.toString('hex') };
}

/** Print an error: one line on stderr, and with `json` a document with its code on stdout. */
export function printError(command: string, error: unknown, json: boolean): void {
  const { code, message } = describe(error);
  const fields = error instanceof LunfsError ? error.fields : undefined;
  const errno = error instanceof LunfsError ? error.errno : undefined;
  if (json) printJson({ error: { code, errno, message, ...(fields && Object.keys(fields).length > 0 ? { fields } : {}) } });
  // Not through the stream: the process may be about to end.
  fs.writeSync(2, `lunfs${command === '' ? '' : ` ${command}`}: ${message.replaceAll('\n', ' ')}\n`);
  if (process.env.LUNFS_DEBUG && error instanceof Error) fs.writeSync(2, `${error.stack}\n`);
}

/** Code and text of anything thrown. System errors are translated; what is left is a bug of ours, told with where it happened. */
export function describe(error: unknown): { code: string; message: string } {
  if (error instanceof LunfsError) return { code: error.code, message: error.message };
  if (!(error instanceof Error)) return { code: 'INTERNAL', message: String(error) };
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (typeof code === 'string' && syscall !== undefined) {
    const words = error.message.replace(/^[A-Z0-9]+: /, '').replace(/, .*$/, '');
    return { code, message: path === undefined ? `${words} (${syscall})` : `${path}: ${words}` };
  }
  return { code: 'INTERNAL', message: `a bug in lunfs: ${error.message} (set LUNFS_DEBUG=1 for where, and report it)` };
}
