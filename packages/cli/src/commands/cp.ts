/** `lunfs cp`: between this host and volumes, and between volumes. `-` is stdin or stdout. */
import * as fs from 'node:fs';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { UsageError } from '@lunfs/device';
import type { Volume } from '@lunfs/ocfs2';
import { Unsuccessful, backupSuperOption, examples } from '../command.js';
import { Copier, measure } from '../copy/copy.js';
import { HostTree } from '../copy/host-tree.js';
import { fromStdin, toStdout } from '../copy/streams.js';
import type { Preserved, Tree } from '../copy/tree.js';
import { VolumeTree } from '../copy/volume-tree.js';
import { describe, note } from '../output.js';
import { Progress } from '../progress.js';
import { formatSize } from '../sizes.js';
import { parseTarget } from '../target.js';
import { joinPath, splitNames } from '../volume-files.js';
import type { SuperChoice } from '../device-access.js';
import { withReader, withWriter } from '../volume-access.js';

interface Options extends SuperChoice {
  recursive?: boolean;
  p?: boolean;
  preserve?: boolean | string;
  archive?: boolean;
  clobber: boolean;
  offline?: boolean;
  quiet?: boolean;
  verbose?: boolean;
  reflink: 'auto' | 'always' | 'never';
}

/** One argument: a path on this host (device undefined), in a volume, or a stream. */
interface Place {
  readonly device?: string;
  readonly path: string;
  readonly stream: boolean;
}

export function cp(program: Command): void {
  program
    .command('cp')
    .summary('copy files into, out of and between volumes')
    .description('Copy files into, out of and between volumes. Within one volume a copy shares the space of its source until one of both changes; else holes stay holes, and zeros become them.')
    .argument('<paths...>', 'sources, then the target: DEVICE:/path, a path on this host, or - for stdin and stdout')
    .option('-r, --recursive', 'directories with all that is in them')
    .option('-p', 'the same as --preserve=mode,ownership,timestamps')
    .option('--preserve [list]', 'what to keep: mode, ownership, timestamps, xattr (extended attributes with ACLs), all; without a list as -p')
    .option('-a, --archive', 'the same as -r --preserve=all')
    .option('-n, --no-clobber', 'leave files that exist as they are')
    .addOption(new Option('--reflink <when>', 'share the space of files within one volume: where possible, or fail (alone: this), or copy').choices(['auto', 'always', 'never']).default('auto'))
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .option('-q, --quiet', 'no progress')
    .option('-v, --verbose', 'say what was copied')
    .addOption(backupSuperOption())
    .addHelpText('after', examples('lunfs cp vm1.raw /dev/mapper/lun0:/', 'lunfs cp -rp /dev/mapper/lun0:/images ./rescued', 'lunfs cp -a ./tree lun.img:/', 'lunfs cp lun.img:/vm1.raw - | zstd > vm1.zst', 'zstd -dc vm1.zst | lunfs cp - lun.img:/vm1.raw', 'lunfs cp old.img:/vm1.raw new.img:/', 'lunfs cp --reflink=always /dev/mapper/lun0:/vm1.raw /dev/mapper/lun0:/vm2.raw'))
    .action(async (paths: string[], options: Options) => {
      if (paths.length < 2) throw new UsageError('BAD_ARGUMENTS', 'EINVAL', 'one path is not enough: give what to copy, and where to', {});
      const places = paths.map(parsePlace);
      const target = places.pop()!;
      if (options.archive) options.recursive = true;
      checkPlaces(places, target);
      await copyAll(places, target, options);
    });
}

const KEPT = ['mode', 'ownership', 'timestamps', 'xattr'] as const;

/** What -p, --preserve and -a ask for. */
function preserved({ p, preserve, archive }: Options): Preserved {
  const words = new Set<string>(archive ? ['all'] : []);
  if (typeof preserve === 'string') for (const word of preserve.split(',')) words.add(word);
  if (p || preserve === true) for (const word of KEPT.slice(0, 3)) words.add(word);
  for (const word of words) {
    if (word !== 'all' && !KEPT.includes(word as never)) throw new UsageError('BAD_ARGUMENTS', 'EINVAL', `--preserve=${word}: say ${KEPT.join(', ')} or all; "-p" stands for the first three`, {});
  }
  const keeps = (word: string): boolean => words.has(word) || words.has('all');
  return { mode: keeps('mode'), ownership: keeps('ownership'), timestamps: keeps('timestamps'), xattr: keeps('xattr') };
}

function parsePlace(text: string): Place {
  if (text === '-') return { path: '-', stream: true };
  const target = parseTarget(text);
  return target === undefined ? { path: text, stream: false } : { ...target, stream: false };
}

function checkPlaces(sources: readonly Place[], target: Place): void {
  const onHost = (place: Place) => place.device === undefined;
  if (onHost(target) && sources.every(onHost)) {
    throw new UsageError('BAD_ARGUMENTS', 'EINVAL', 'neither source nor target is in a volume; write DEVICE:/path for the one that is (cp copies on this host)', {});
  }
  const streams = sources.filter((place) => place.stream);
  if ((target.stream || streams.length > 0) && sources.length > 1) throw new UsageError('BAD_ARGUMENTS', 'EINVAL', '"-" goes with one source and one target', {});
}

async function copyAll(sources: readonly Place[], target: Place, options: Options): Promise<void> {
  const progress = new Progress('cp', 'bytes', options.quiet);
  try {
    await withTree(target, true, options, undefined, async (to) => {
      // A device is opened once, also when it is read from and written to.
      for (const device of new Set(sources.map((place) => place.device))) {
        const these = sources.filter((place) => place.device === device);
        await withTree(these[0], false, options, { place: target, tree: to }, (from) => copyBetween(from, these, to, target, sources.length, options, progress));
      }
    });
  } finally {
    progress.end();
  }
}

async function withTree(place: Place, write: boolean, options: Options, opened: { place: Place; tree: Tree } | undefined, work: (tree: Tree) => Promise<void>): Promise<void> {
  const { device } = place;
  if (device === undefined) return work(new HostTree());
  if (opened?.place.device !== undefined && sameDevice(opened.place.device, device)) return work(opened.tree);
  const run = (volume: Volume) => work(new VolumeTree(volume));
  await (write ? withWriter('cp', device, options, run) : withReader('cp', device, options, run));
}

function sameDevice(a: string, b: string): boolean {
  try {
    const [x, y] = [fs.statSync(a), fs.statSync(b)];
    return x.isBlockDevice() ? x.rdev === y.rdev && y.isBlockDevice() : x.dev === y.dev && x.ino === y.ino;
  } catch {
    return a === b; // opening it will say what is wrong
  }
}

async function copyBetween(from: Tree, sources: readonly Place[], to: Tree, target: Place, sourceCount: number, options: Options, progress: Progress): Promise<void> {
  if (sources[0].stream) return fromStream(to, target, progress);
  if (target.stream) return toStream(from, sources[0], progress);
  const targetPath = Buffer.from(target.path);
  const existing = await to.entry(targetPath, true);
  const isDirectory = existing?.kind === 'directory';
  if (!isDirectory && (sourceCount > 1 || (target.path.endsWith('/') && (!options.recursive || existing !== undefined)))) {
    throw new UsageError('NOT_A_DIRECTORY', 'ENOTDIR', `${to.label(targetPath)} is no directory; make it first${target.device === undefined ? '' : ' (lunfs mkdir)'}`, { path: target.path });
  }
  let failures = 0;
  let copied = 0;
  let total = 0;
  for (const { path: one } of sources) total += await measure(from, Buffer.from(one), !options.recursive);
  const copier = new Copier(from, to, {
    recursive: options.recursive ?? false, preserve: preserved(options), noClobber: !options.clobber, reflink: options.reflink, umask: process.umask(),
    tell: (file, bytes) => progress.tell(shorten(file), (copied += bytes), total),
    failed: (error) => {
      failures++;
      progress.end();
      note('cp', describe(error).message);
    },
  });
  for (const { path: one } of sources) await copier.copy(Buffer.from(one), isDirectory ? joinPath(targetPath, lastName(one)) : trimmed(targetPath));
  progress.end();
  const { files, directories, others, bytes } = copier.counts;
  if (options.verbose) note('cp', `${files} files (${formatSize(bytes)}), ${directories} directories, ${others} others`);
  if (failures > 0) {
    note('cp', `${failures} could not be copied`);
    throw new Unsuccessful(1);
  }
}

async function fromStream(to: Tree, target: Place, progress: Progress): Promise<void> {
  const path = Buffer.from(target.path);
  const existing = await to.entry(path, true);
  if (existing !== undefined && existing.kind !== 'file') throw new UsageError('EXISTS', 'EEXIST', `${to.label(path)} is a ${existing.kind}; name the file that stdin becomes`, { path: target.path });
  const writer = await to.create(path, 0o666 & ~process.umask());
  try {
    await fromStdin(writer, to.granule, (done) => progress.tell('stdin', done));
  } finally {
    await writer.close();
  }
}

async function toStream(from: Tree, source: Place, progress: Progress): Promise<void> {
  const path = Buffer.from(source.path);
  const entry = await from.entry(path, true);
  if (entry === undefined) throw new UsageError('NOT_FOUND', 'ENOENT', `${from.label(path)} does not exist`, { path: source.path });
  if (entry.kind !== 'file') throw new UsageError('NOT_A_FILE', 'EINVAL', `${from.label(path)} is a ${entry.kind}; only files go to stdout`, { path: source.path });
  const reader = await from.open(path);
  await toStdout(reader, (done) => progress.tell(shorten(source.path), done, reader.size));
}

/** What a copy into a directory is called. */
function lastName(source: string): Buffer {
  const name = splitNames(Buffer.from(source)).at(-1);
  if (name === undefined || name.toString() === '..') return Buffer.from(source.startsWith('/') && name === undefined ? '.' : path.basename(path.resolve(source)));
  return name;
}

function trimmed(target: Buffer): Buffer {
  return target.length > 1 && target.at(-1) === 0x2f ? target.subarray(0, -1) : target;
}

function shorten(file: string): string {
  return file.length > 40 ? `…${file.slice(-39)}` : file;
}
