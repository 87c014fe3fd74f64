/** `lunfs mkdir`. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { MODE } from '@lunfs/ocfs2';
import { examples } from '../command.js';
import { parseMode } from '../sizes.js';
import { byDevice, needTarget } from '../target.js';
import { VolumeFiles, isType, joinPath, splitNames } from '../volume-files.js';
import { withWriter } from '../volume-access.js';

interface Options {
  parents?: boolean;
  mode?: number;
  offline?: boolean;
}

export function mkdir(program: Command): void {
  program
    .command('mkdir')
    .summary('make directories in a volume')
    .argument('<target...>', 'DEVICE:/path')
    .option('-p, --parents', 'those above too, and no error for what exists')
    .option('-m, --mode <octal>', 'permission bits (default: 777 without the umask)', parseMode)
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .addHelpText('after', examples('lunfs mkdir -p lun.img:/images/linux'))
    .action(async (texts: string[], options: Options) => {
      for (const [device, paths] of byDevice(texts.map(needTarget))) {
        await withWriter('mkdir', device, options, async (volume) => {
          const files = new VolumeFiles(volume);
          for (const path of paths) await (options.parents ? makeAll(files, path, options) : make(files, Buffer.from(path), options));
        });
      }
    });
}

async function make(files: VolumeFiles, path: Buffer, { mode = 0o777 & ~process.umask() }: Options): Promise<void> {
  const { directory, name, found } = await files.place(path);
  if (found !== undefined) throw new UsageError('EXISTS', 'EEXIST', `${files.label(path)} exists`, { path: path.toString() });
  const { names } = files.volume;
  const made = await names.create(directory.blkno, name, { mode: MODE.DIR | mode, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
  await names.forget(made.blkno);
}

async function makeAll(files: VolumeFiles, path: string, options: Options): Promise<void> {
  const names = splitNames(Buffer.from(path));
  let at: Buffer = Buffer.from('/');
  for (const [i, name] of names.entries()) {
    at = joinPath(at, name);
    const found = await files.look(at, { follow: true });
    // Modes asked for are those of the last; the ones above are as usual.
    if (found === undefined) await make(files, at, i === names.length - 1 ? options : {});
    else if (!isType(found, MODE.DIR)) throw new UsageError('NOT_A_DIRECTORY', 'ENOTDIR', `${files.label(at)} exists and is no directory`, { path: at.toString() });
  }
}
