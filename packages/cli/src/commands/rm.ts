/** `lunfs rm`. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { type Attributes, MODE } from '@lunfs/ocfs2';
import { examples } from '../command.js';
import { checkInterrupted } from '../interrupt.js';
import { Progress } from '../progress.js';
import { byDevice, needTarget } from '../target.js';
import { VolumeFiles, isType } from '../volume-files.js';
import { withWriter } from '../volume-access.js';

interface Options {
  recursive?: boolean;
  force?: boolean;
  offline?: boolean;
}

export function rm(program: Command): void {
  program
    .command('rm')
    .summary('remove files from a volume')
    .argument('<target...>', 'DEVICE:/path')
    .option('-r, --recursive', 'directories with all that is in them')
    .option('-f, --force', 'no error for what does not exist')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .addHelpText('after', examples('lunfs rm lun.img:/vm1.raw', 'lunfs rm -r lun.img:/old'))
    .action(async (texts: string[], options: Options) => {
      for (const [device, paths] of byDevice(texts.map(needTarget))) {
        await withWriter('rm', device, options, async (volume) => {
          const remover = new Remover(new VolumeFiles(volume), options);
          for (const path of paths) await remover.remove(Buffer.from(path));
        });
      }
    });
}

class Remover {
  readonly #progress = new Progress('rm', 'files');
  #done = 0;

  constructor(private readonly files: VolumeFiles, private readonly options: Options) {}

  async remove(path: Buffer): Promise<void> {
    const { directory, name, found } = await this.files.place(path);
    if (found === undefined) {
      if (this.options.force) return;
      throw new UsageError('NOT_FOUND', 'ENOENT', `${this.files.label(path)} does not exist`, { path: path.toString() });
    }
    if (isType(found, MODE.DIR) && !this.options.recursive) throw new UsageError('IS_A_DIRECTORY', 'EISDIR', `${this.files.label(path)} is a directory; remove it with -r`, { path: path.toString() });
    await this.#entry(directory, name, found);
    this.#progress.end();
  }

  async #entry(directory: Attributes, name: Buffer, found: Attributes): Promise<void> {
    checkInterrupted();
    const { names } = this.files.volume;
    if (!isType(found, MODE.DIR)) await names.unlink(directory.blkno, name);
    else {
      for (const { name: child, attributes } of await this.files.children(found)) await this.#entry(found, child, attributes);
      await names.rmdir(directory.blkno, name);
    }
    this.#progress.tell('removed', ++this.#done);
  }
}
