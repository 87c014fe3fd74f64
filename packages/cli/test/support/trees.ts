/** Trees of files on this host with everything a tree can have, and what two of them are compared by. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import path from 'node:path';

/** Make the tree: sparse and empty and inline-sized files, odd names, hard links, symlinks, modes, times. */
export function makeTree(directory: string): void {
  const at = (...names: string[]) => path.join(directory, ...names);
  fs.mkdirSync(at('deep/er/est'), { recursive: true });
  fs.writeFileSync(at('empty'), '');
  fs.writeFileSync(at('small'), 'a few bytes\n');
  fs.writeFileSync(at('deep/er/est/page'), Buffer.alloc(4096, 0x61));
  fs.writeFileSync(at('large'), Buffer.from(Array.from({ length: 9 << 20 }, (_, i) => (i * 7 + (i >> 12)) & 0xff)));
  const sparse = fs.openSync(at('sparse'), 'w');
  fs.writeSync(sparse, 'start', 0);
  fs.writeSync(sparse, 'middle', 20_000_001);
  fs.ftruncateSync(sparse, 64 << 20);
  fs.closeSync(sparse);
  fs.writeFileSync(at('with space and "quotes"'), 'x');
  fs.writeFileSync(at('новый-файл-ñ-日本'), 'utf-8');
  fs.writeFileSync(Buffer.concat([Buffer.from(at('raw-')), Buffer.from([0xff, 0xfe, 0x0a, 0x7f])]), 'bytes that are no text');
  fs.writeFileSync(at('n'.repeat(255)), 'longest name');
  fs.writeFileSync(at(':/colon'.replace('/', '-')), 'colon');
  fs.linkSync(at('small'), at('deep/hard-link'));
  fs.symlinkSync('small', at('symlink'));
  fs.symlinkSync('../nowhere/at/all', at('deep/dangling'));
  fs.symlinkSync('x'.repeat(3000), at('deep/long-symlink'));
  for (let i = 0; i < 300; i++) fs.writeFileSync(at('deep/er', `file-${i}`), `number ${i}`);
  fs.chmodSync(at('small'), 0o640);
  fs.chmodSync(at('empty'), 0o4755);
  fs.chmodSync(at('deep/er/est'), 0o1777);
  fs.utimesSync(at('large'), 1_000_000_000.25, 1_234_567_890.5);
  fs.utimesSync(at('deep'), 1_500_000_000, 1_400_000_000);
}

/** Everything of a tree by path (latin1, since names are bytes): type, mode, links, size, hash or target; with `times` mtime in microseconds. */
export function describeTree(directory: string, options: { readonly modes: boolean; readonly times: boolean }): Map<string, string> {
  const found = new Map<string, string>();
  const visit = (at: Buffer, name: string): void => {
    const stats = fs.lstatSync(at, { bigint: true });
    const parts = [stats.isFile() ? 'file' : stats.isDirectory() ? 'directory' : stats.isSymbolicLink() ? 'symlink' : 'other'];
    if (options.modes && !stats.isSymbolicLink()) parts.push((Number(stats.mode) & 0o7777).toString(8));
    if (options.times && !stats.isSymbolicLink()) parts.push(String(stats.mtimeNs / 1000n));
    if (stats.isFile()) parts.push(`links ${stats.nlink}`, String(stats.size), createHash('sha256').update(fs.readFileSync(at)).digest('hex'));
    if (stats.isSymbolicLink()) parts.push(fs.readlinkSync(at, { encoding: 'buffer' }).toString('latin1'));
    found.set(name, parts.join(' '));
    if (!stats.isDirectory()) return;
    for (const child of fs.readdirSync(at, { encoding: 'buffer' })) visit(Buffer.concat([at, Buffer.from('/'), child]), `${name}/${child.toString('latin1')}`);
  };
  visit(Buffer.from(directory), '.');
  return found;
}
