/** `lunfs stat`: all that a dinode says. */
import type { Command } from 'commander';
import { type AclEntry, type Attributes, type FileExtent, MODE, RawReader, type Volume, isAcl, parseAcl, parseXattrName } from '@lunfs/ocfs2';
import { backupSuperOption, examples } from '../command.js';
import { type InodeFacts, inodeExtents, inodeFacts, modeText, octal } from '../inode-facts.js';
import { facts, nameFact, printBytes, printJson, table } from '../output.js';
import { formatSize } from '../sizes.js';
import { targetOrRoot } from '../target.js';
import { VolumeFiles, isType, joinPath } from '../volume-files.js';
import type { SuperChoice } from '../device-access.js';
import { withReader } from '../volume-access.js';

interface Options extends SuperChoice {
  dereference?: boolean;
  extents?: boolean;
  recursive?: boolean;
  json?: boolean;
}

interface Stat extends InodeFacts {
  readonly extents?: readonly FileExtent[];
  readonly xattrs: readonly XattrFact[];
}

/** An attribute with its value: ACLs as text, others as they are. */
interface XattrFact {
  readonly name: Buffer;
  readonly size: number;
  readonly value: string;
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
            const one: Stat = { ...inodeFacts(volume.geo, block), xattrs: await xattrFacts(volume, found.blkno), ...(options.extents ? { extents: await inodeExtents(reader, block) } : {}) };
            if (options.json) json.push({ ...nameFact('path', at), ...one, xattrs: one.xattrs.map(({ name, size, value }) => ({ ...nameFact('name', name), size, value })), mode: octal(one.mode), ...(target ? nameFact('target', target) : {}) });
            else show(at, one, target);
            if (!options.recursive || !isType(found, MODE.DIR)) return;
            for (const { name, attributes } of await files.children(found)) await each(joinPath(at, name), attributes);
          };
          const start = Buffer.from(path);
          await each(start, await files.find(start, { follow: options.dereference ?? false }));
        });
      }
      if (options.json) printJson(json);
    });
}

/** Characters of a value that a line shows. */
const LONG_VALUE = 100;

async function xattrFacts(volume: Volume, ino: number): Promise<XattrFact[]> {
  const { names } = volume;
  const facts: XattrFact[] = [];
  for (const name of volume.geo.xattr ? await names.listXattr(ino) : []) {
    const value = Buffer.from(await names.getXattr(ino, name));
    // Behind the version of the form.
    const acl = isAcl(parseXattrName(name)?.type ?? 0);
    facts.push({ name: Buffer.from(name), size: value.length, value: acl ? aclText(parseAcl(value.subarray(4))) : valueText(value) });
  }
  return facts.sort((a, b) => Buffer.compare(a.name, b.name));
}

/** Printable values as a quoted text, others as hexadecimal digits. */
function valueText(value: Buffer): string {
  const text = value.toString('utf8');
  return Buffer.from(text).equals(value) && !/\p{Cc}/u.test(text) ? JSON.stringify(text) : `0x${value.toString('hex')}`;
}

const ACL_NAMES: Readonly<Record<number, string>> = { 1: 'user', 2: 'user', 4: 'group', 8: 'group', 16: 'mask', 32: 'other' };

/** As getfacl writes it, with numbers for names. */
function aclText(acl: readonly AclEntry[]): string {
  const rwx = (perm: number): string => `${perm & 4 ? 'r' : '-'}${perm & 2 ? 'w' : '-'}${perm & 1 ? 'x' : '-'}`;
  return acl.map(({ tag, perm, id }) => `${ACL_NAMES[tag]}:${id === 0xffffffff ? '' : id}:${rwx(perm)}`).join(',');
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
  for (const { name, size, value } of s.xattrs) printBytes('Attribute: ', name, ` = ${value.length > LONG_VALUE ? `${value.slice(0, LONG_VALUE)}… (${size} bytes)` : value}`);
  if (s.extents !== undefined) printBytes(extentTable(s.extents));
  printBytes('');
}

/** Extents as text. */
export function extentTable(extents: readonly FileExtent[]): string {
  if (extents.length === 0) return 'No extents.';
  const rows = extents.map((e, i) => [String(i), String(e.offset), String(e.length), String(e.device), [e.unwritten ? 'unwritten' : '', e.shared ? 'shared' : ''].filter(Boolean).join(' ')]);
  return table(['>#', '>Offset', '>Bytes', '>On the device', ''], rows);
}
