/** `lunfs mv`: rename inside one volume. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { MODE } from '@lunfs/ocfs2';
import { examples } from '../command.js';
import { byDevice, needTarget } from '../target.js';
import { VolumeFiles, isType, joinPath } from '../volume-files.js';
import { withWriter } from '../volume-access.js';

interface Options {
  clobber: boolean;
  offline?: boolean;
}

export function mv(program: Command): void {
  program
    .command('mv')
    .summary('rename and move files inside a volume')
    .argument('<targets...>', 'what to move, then the new name or a directory: each DEVICE:/path')
    .option('-n, --no-clobber', 'fail instead of replacing a file')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .addHelpText('after', examples('lunfs mv lun.img:/vm1.raw lun.img:/old.raw', 'lunfs mv lun.img:/a lun.img:/b lun.img:/directory'))
    .action(async (texts: string[], options: Options) => {
      if (texts.length < 2) throw new UsageError('BAD_ARGUMENTS', 'EINVAL', 'one path is not enough: give what to move, and where to', {});
      const targets = texts.map(needTarget);
      const devices = byDevice(targets);
      if (devices.size > 1) throw new UsageError('BAD_ARGUMENTS', 'EXDEV', `${[...devices.keys()].join(' and ')} are different volumes; copy with "lunfs cp -rp", then "lunfs rm -r"`, {});
      const { device, path } = targets.pop()!;
      await withWriter('mv', device, options, async (volume) => {
        const files = new VolumeFiles(volume);
        for (const one of targets) await move(files, Buffer.from(one.path), Buffer.from(path), targets.length > 1, options);
      });
    });
}

async function move(files: VolumeFiles, from: Buffer, to: Buffer, intoDirectory: boolean, options: Options): Promise<void> {
  const source = await files.place(from);
  if (source.found === undefined) throw new UsageError('NOT_FOUND', 'ENOENT', `${files.label(from)} does not exist`, { path: from.toString() });
  const existing = await files.look(to, { follow: true });
  const isDirectory = existing !== undefined && isType(existing, MODE.DIR);
  if (!isDirectory && (intoDirectory || to.at(-1) === 0x2f)) throw new UsageError('NOT_A_DIRECTORY', 'ENOTDIR', `${files.label(to)} is no directory; make it first (lunfs mkdir)`, { path: to.toString() });
  const target = await files.place(isDirectory ? joinPath(to, source.name) : to);
  if (target.found?.blkno === source.found.blkno) throw new UsageError('SAME_FILE', 'EINVAL', `${files.label(from)} and ${files.label(to)} are the same file`, { path: to.toString() });
  if (target.found !== undefined && !options.clobber) throw new UsageError('EXISTS', 'EEXIST', `${files.label(isDirectory ? joinPath(to, source.name) : to)} exists`, { path: to.toString() });
  await files.volume.names.rename({ oldDir: source.directory.blkno, oldName: source.name, newDir: target.directory.blkno, newName: target.name, noReplace: !options.clobber });
}
