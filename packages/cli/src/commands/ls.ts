/** `lunfs ls`: names in a volume. */
import type { Command } from 'commander';
import { type Attributes, MODE } from '@lunfs/ocfs2';
import { backupSuperOption, examples } from '../command.js';
import { decodeDevice, kindOf } from '../copy/volume-tree.js';
import { modeText, octal } from '../inode-facts.js';
import { nameFact, printBytes, printJson } from '../output.js';
import { formatTime } from '../sizes.js';
import { targetOrRoot } from '../target.js';
import { VolumeFiles, isType, joinPath } from '../volume-files.js';
import type { SuperChoice } from '../device-access.js';
import { withReader } from '../volume-access.js';

interface Options extends SuperChoice {
  long?: boolean;
  recursive?: boolean;
  directory?: boolean;
  json?: boolean;
}

interface Listed {
  readonly name: Buffer;
  readonly path: Buffer;
  readonly attributes: Attributes;
  readonly target?: Uint8Array;
}

export function ls(program: Command): void {
  program
    .command('ls')
    .summary('list files in a volume')
    .argument('<target>', 'DEVICE for its root, or DEVICE:/path')
    .option('-l, --long', 'mode, links, owner, size and time of each')
    .option('-R, --recursive', 'everything below, too')
    .option('-d, --directory', 'a directory itself, not what is in it')
    .option('--json', 'print as JSON')
    .addOption(backupSuperOption())
    .addHelpText('after', examples('lunfs ls /dev/mapper/lun0', 'lunfs ls -lR lun.img:/images', 'lunfs ls --json lun.img:/'))
    .action(async (text: string, options: Options) => {
      const target = targetOrRoot(text);
      await withReader('ls', target.device, options, (volume) => list(new VolumeFiles(volume), Buffer.from(target.path), options));
    });
}

async function list(files: VolumeFiles, path: Buffer, options: Options): Promise<void> {
  const found = await files.find(path, { follow: !options.long || path.at(-1) === 0x2f });
  const json: object[] = [];
  const show = options.json ? (listed: readonly Listed[]) => void json.push(...listed.map(asJson)) : (listed: readonly Listed[]) => printAll(listed, options);
  if (options.directory || !isType(found, MODE.DIR)) show([await listed(files, path, path, found)]);
  else await directory(files, path, found, options, show);
  if (options.json) printJson(json);
}

async function directory(files: VolumeFiles, path: Buffer, found: Attributes, options: Options, show: (listed: readonly Listed[]) => void): Promise<void> {
  if (options.recursive && !options.json) printBytes(path, ':');
  const entries: Listed[] = [];
  for (const { name, attributes } of await files.children(found)) entries.push(await listed(files, name, joinPath(path, name), attributes));
  show(entries);
  if (!options.recursive) return;
  for (const one of entries) {
    if (!isType(one.attributes, MODE.DIR)) continue;
    if (!options.json) printBytes('');
    await directory(files, one.path, one.attributes, options, show);
  }
}

async function listed(files: VolumeFiles, name: Buffer, path: Buffer, attributes: Attributes): Promise<Listed> {
  return { name, path, attributes, target: isType(attributes, MODE.LNK) ? await files.volume.names.readlink(attributes.blkno) : undefined };
}

function asJson({ name, path, attributes: a, target }: Listed): object {
  const kind = kindOf(a);
  return {
    ...nameFact('name', name), ...nameFact('path', path), kind, inode: a.blkno, mode: octal(a.mode & 0o7777), links: a.links, uid: a.uid, gid: a.gid, size: a.size, allocated: a.blocks * 512,
    mtime: formatTime(a.mtime.sec, a.mtime.nsec), ...(target ? nameFact('target', target) : {}), ...(kind === 'char' || kind === 'block' ? decodeDevice(a.rdev) : {}),
  };
}

function printAll(entries: readonly Listed[], options: Options): void {
  if (!options.long) {
    for (const { name } of entries) printBytes(name);
    return;
  }
  const rows = entries.map(({ attributes: a }) => {
    const kind = kindOf(a);
    const { major, minor } = decodeDevice(a.rdev);
    return [modeText(kind, a.mode & 0o7777), String(a.links), String(a.uid), String(a.gid), kind === 'char' || kind === 'block' ? `${major}, ${minor}` : String(a.size), formatTime(a.mtime.sec).slice(0, 16)];
  });
  const widths = [0, 1, 2, 3, 4, 5].map((column) => Math.max(0, ...rows.map((row) => row[column].length)));
  entries.forEach(({ name, target }, i) => {
    const cells = rows[i].map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])));
    printBytes(`${cells.join(' ')} `, name, ...(target ? [' -> ', target] : []));
  });
}
