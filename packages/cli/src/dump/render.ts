/** Dumped structures as text: `name: value` lines, lists of like objects as tables, bytes as a hex dump. */
import { table } from '../output.js';

const HEX_LINE = 16;
/** Lists of wider objects are shown one below the other. */
const COLUMNS_MAX = 8;

export function render(value: unknown, indent = ''): string {
  if (Array.isArray(value)) return renderList(value as readonly unknown[], indent);
  if (value instanceof Uint8Array) return hexDump(value, indent);
  if (!isNested(value)) return `${indent}${String(value)}`;
  const lines: string[] = [];
  for (const [name, one] of Object.entries(value as Record<string, unknown>)) {
    if (one === undefined) continue;
    if (!isNested(one)) lines.push(`${indent}${name}: ${String(one)}`);
    else if (Array.isArray(one) && one.length === 0) lines.push(`${indent}${name}: none`);
    else lines.push(`${indent}${name}:`, render(one, `${indent}  `));
  }
  return lines.join('\n');
}

function renderList(list: readonly unknown[], indent: string): string {
  if (list.length === 0) return `${indent}none`;
  const rows = list.filter((one): one is Record<string, unknown> => isNested(one) && !(one instanceof Uint8Array));
  if (rows.length < list.length) return list.map((one) => render(one, indent)).join('\n');
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  if (columns.length > COLUMNS_MAX || rows.some((row) => Object.values(row).some(isNested))) return rows.map((row) => `${indent}- ${render(row, `${indent}  `).trimStart()}`).join('\n');
  const head = columns.map((name) => (rows.every((row) => typeof row[name] !== 'string') ? `>${name}` : name));
  return table(head, rows.map((row) => columns.map((name) => (row[name] === undefined ? '' : String(row[name]))))).split('\n').map((line) => indent + line).join('\n');
}

function isNested(value: unknown): boolean {
  return value !== null && typeof value === 'object';
}

/** As hexdump -C: repeated lines once. */
function hexDump(bytes: Uint8Array, indent: string): string {
  const lines: string[] = [];
  let last = '';
  for (let at = 0; at < bytes.length; at += HEX_LINE) {
    const part = Buffer.from(bytes.subarray(at, at + HEX_LINE));
    const hex = part.toString('hex').replace(/../g, '$& ').padEnd(3 * HEX_LINE);
    if (hex === last && at + HEX_LINE < bytes.length) {
      if (lines.at(-1) !== `${indent}*`) lines.push(`${indent}*`);
      continue;
    }
    last = hex;
    lines.push(`${indent}${at.toString(16).padStart(4, '0')}  ${hex} ${part.toString('latin1').replace(/[^\x20-\x7e]/g, '.')}`);
  }
  return lines.join('\n');
}
