/**
 * QMP on the wire (QEMU docs/interop/qmp-spec.rst): one JSON object per line. The server greets, then answers commands by their `id`, in any
 * order where they are out-of-band, and sends events whenever it likes. Nothing of it is trusted: lines are bounded, every message is one of
 * the four shapes below or the connection ends.
 */
import { IoError } from '@lunfs/device';

/** Longest line that is accepted. The longest that QEMU is known to send, its whole schema, has a quarter of a megabyte. */
export const LINE_MAX = 16 << 20;

export type JsonObject = Readonly<Record<string, unknown>>;

export interface QmpVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

export interface QmpEvent {
  readonly name: string;
  readonly data: JsonObject;
  /** When it happened, by the wall clock of QEMU's host: milliseconds since 1970, with fractions. */
  readonly at: number;
}

export type QmpMessage =
  | { readonly kind: 'greeting'; readonly version: QmpVersion }
  | { readonly kind: 'return'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: number; readonly class: string; readonly description: string }
  | { readonly kind: 'event'; readonly event: QmpEvent };

/** What a line says. Throws QMP_PROTOCOL with the reason. */
export function parseMessage(line: string): QmpMessage {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw violation('a line that is no JSON', line, cause);
  }
  if (!isObject(value)) throw violation('a line that is no object', line);
  if ('QMP' in value) return { kind: 'greeting', version: versionOf(value.QMP, line) };
  if ('event' in value) return { kind: 'event', event: eventOf(value, line) };
  if ('return' in value) return { kind: 'return', id: idOf(value, line), value: value.return };
  if (!isObject(value.error)) throw violation('a message of no known kind', line);
  const { class: name, desc } = value.error;
  if (typeof name !== 'string' || typeof desc !== 'string') throw violation('an error without class or text', line);
  return { kind: 'error', id: idOf(value, line), class: name, description: desc };
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function versionOf(greeting: unknown, line: string): QmpVersion {
  const version = isObject(greeting) && isObject(greeting.version) && isObject(greeting.version.qemu) ? greeting.version.qemu : {};
  const { major, minor, micro } = version;
  if (!isCount(major) || !isCount(minor) || !isCount(micro)) throw violation('a greeting without a version', line);
  return { major, minor, micro };
}

function eventOf({ event, data, timestamp }: JsonObject, line: string): QmpEvent {
  if (typeof event !== 'string' || (data !== undefined && !isObject(data)) || !isObject(timestamp)) throw violation('an event without name, data or time', line);
  const { seconds, microseconds } = timestamp;
  // QEMU sends -1 for both where the host's clock cannot be read.
  if (!Number.isSafeInteger(seconds) || !Number.isSafeInteger(microseconds)) throw violation('an event without a time', line);
  return { name: event, data: data ?? {}, at: Number(seconds) * 1000 + Number(microseconds) / 1000 };
}

/** The id of our command. QEMU leaves it out only where it could not read the command, and ours are well formed. */
function idOf({ id }: JsonObject, line: string): number {
  if (!isCount(id)) throw violation('an answer to no command of ours', line);
  return id;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** The connection cannot be understood any more. */
export function violation(what: string, line?: string, cause?: unknown): IoError {
  return new IoError('QMP_PROTOCOL', `the monitor of QEMU sent ${what}${line === undefined ? '' : `: ${line.slice(0, 200)}`}`, {}, cause, 'EPROTO');
}

/** Calls `line` for each line in what arrives, with or without a carriage return; throws QMP_PROTOCOL when one is longer than `limit` bytes. */
export function lineReader(line: (text: string) => void, limit = LINE_MAX): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let length = 0;
  return (chunk) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, at));
      if (length + at - from > limit) throw violation(`a line of more than ${limit} bytes`);
      const text = Buffer.concat(parts).toString().trimEnd();
      parts = [];
      length = 0;
      from = at + 1;
      if (text !== '') line(text);
    }
    if (from < chunk.length) parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > limit) throw violation(`a line of more than ${limit} bytes`);
  };
}
