/** `lunfs stat`: all that a dinode says. */
import type { Command } from 'commander';
import { type Attributes, type FileExtent, MODE, RawReader } from '@lunfs/ocfs2';
import { backupSuperOption, examples } from '../command.js';
import { type InodeFacts, inodeExtents, inodeFacts, modeText, octal } from '../inode-facts.js';
import { facts, nameFact, printBytes, printJson, table } from '../output.js';
import { formatSize } from '../sizes.js';
import { targetOrRoot } from '../target.js';
import { VolumeFiles, isType, joinPath } from '../volume-files.js';
import { type SuperChoice, withReader } from '../volume-access.js';

interface Options extends SuperChoice {
  dereference?: boolean;
  extents?: boolean;
  recursive?: boolean;
  json?: boolean;
}

interface Stat extends InodeFacts {
  readonly extents?: readonly FileExtent[];
}

export function stat(program: Command): void {
  program
    .command('stat')
    .summary('show all that is known of files in a volume')
    .argument('<target...>', 'DEVICE:/path')
    .option('-L, --dereference', 'follow symlinks')
    .option('-x, --extents', 'where the data lies')
    .option('-R, --recursive', 'everything below, too')
    .option('--json', 'print as JSON')
    .addOption(backupSuperOption())
    .addHelpText('after', examples('lunfs stat lun.img:/vm1.raw', 'lunfs stat -x --json /dev/mapper/lun0:/vm1.raw'))
    .action(async (texts: string[], options: Options) => {
      const json: object[] = [];
      for (const { device, path } of texts.map(targetOrRoot)) {
        await withReader('stat', device, options, async (volume) => {
          const files = new VolumeFiles(volume);
          const reader = new RawReader(volume.device, volume.geo);
          const each = async (at: Buffer, found: Attributes): Promise<void> => {
            const block = await reader.inode(found.blkno);
            const target = isType(found, MODE.LNK) ? await volume.names.readlink(found.blkno) : undefined;
            const one: Stat = { ...inodeFacts(volume.geo, block), ...(options.extents ? { extents: await inodeExtents(reader, block) } : {}) };
            if (options.json) json.push({ ...nameFact('path', at), ...one, mode: octal(one.mode), ...(target ? nameFact('target', target) : {}) });
            else show(at, one, target);
            if (!options.recursive || !isType(found, MODE.DIR)) return;
            for (const name of await files.list(found)) {
              const child = await files.child(found, name);
              if (child !== undefined) await each(joinPath(at, name), child);
            }
          };
          const start = Buffer.from(path);
          await each(start, await files.find(start, { follow: options.dereference ?? false }));
        });
      }
      if (options.json) printJson(json);
    });
}

function show(path: Buffer, s: Stat, target: Uint8Array | undefined): void {
  printBytes('Path:      ', path, ...(target ? [' -> ', target] : []));
  const device = s.major === undefined ? undefined : `${s.major}, ${s.minor}`;
  printBytes(facts([
    ['Type', s.kind], ['Inode', `${s.inode}, generation ${s.generation}`], ['Mode', `${modeText(s.kind, s.mode)} (${octal(s.mode)})`], ['Links', s.links],
    ['Owner', `uid ${s.uid}, gid ${s.gid}`], ['Device', device], ['Size', `${s.size} (${formatSize(s.size)})`],
    ['Allocated', s.inline ? 'inline, in the inode' : `${s.clusters} clusters (${formatSize(s.allocated)})`], ['Flags', s.flags.join(' ')], ['Features', s.features.join(' ') || undefined],
    ['Allocator', `slot ${s.slot === 0xffff ? 'global' : s.slot}, bit ${s.bit}${s.group === 0 ? '' : `, group ${s.group}`}`],
    ['Accessed', s.atime], ['Modified', s.mtime], ['Changed', s.ctime], ['Deleted', s.dtime],
  ]));
  if (s.extents !== undefined) printBytes(extentTable(s.extents));
  printBytes('');
}

/** Extents as text. */
export function extentTable(extents: readonly FileExtent[]): string {
  if (extents.length === 0) return 'No extents.';
  const rows = extents.map((e, i) => [String(i), String(e.offset), String(e.length), String(e.device), [e.unwritten ? 'unwritten' : '', e.shared ? 'shared' : ''].filter(Boolean).join(' ')]);
  return table(['>#', '>Offset', '>Bytes', '>On the device', ''], rows);
}
