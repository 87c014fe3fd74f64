/** Sizes and other numbers as operators write and read them. Units are binary: K is 1024 bytes, also written KiB or KB. */
import { UsageError } from '@lunfs/device';

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'] as const;

/** `20G`, `512`, `1.5T`, `64KiB` in bytes. Throws BAD_SIZE. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?$/i.exec(text.trim());
  const power = match ? UNITS.indexOf(match[2].toUpperCase() as (typeof UNITS)[number]) : -1;
  const bytes = match ? Number(match[1]) * 1024 ** power : Number.NaN;
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new UsageError('BAD_SIZE', 'EINVAL', `"${text}" is no size; write bytes, or a number with K, M, G or T, such as 20G`, { value: text });
}

/** A whole number, decimal or 0x hexadecimal. Throws BAD_NUMBER. */
export function parseNumber(text: string): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new UsageError('BAD_NUMBER', 'EINVAL', `"${text}" is no whole number`, { value: text });
}

/** Permission bits in octal, such as 755. Throws BAD_MODE. */
export function parseMode(text: string): number {
  if (/^[0-7]{1,4}$/.test(text)) return Number.parseInt(text, 8);
  throw new UsageError('BAD_MODE', 'EINVAL', `"${text}" is no mode; write octal permission bits such as 755`, { value: text });
}

/** Bytes with three digits and a binary unit: `1.50 GiB`. */
export function formatSize(bytes: number): string {
  let power = 0;
  while (power < UNITS.length - 1 && Math.abs(bytes) >= 1000 * 1024 ** power) power++;
  if (power === 0) return `${bytes} B`;
  const value = bytes / 1024 ** power;
  return `${value.toFixed(Number.isInteger(value) || value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${UNITS[power]}iB`;
}

/** Seconds as `42 s`, `3 min 05 s`, `2 h 10 min`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (n: number) => String(n).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** Seconds and nanoseconds since 1970 as `2026-05-01 12:00:00.123456789Z`; wild times as seconds. */
export function formatTime(sec: number, nsec = 0): string {
  const date = new Date(sec * 1000);
  if (Number.isNaN(date.getTime())) return `${sec} s`;
  const [day, time] = date.toISOString().split('T');
  return `${day} ${time.slice(0, 8)}${nsec > 0 ? `.${String(nsec).padStart(9, '0')}` : ''}Z`;
}
