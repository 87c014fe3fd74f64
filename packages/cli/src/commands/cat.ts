/** `lunfs cat`: files of a volume to stdout. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { MODE } from '@lunfs/ocfs2';
import { backupSuperOption, examples } from '../command.js';
import { toStdout } from '../copy/streams.js';
import { volumeReader } from '../copy/volume-tree.js';
import { needTarget } from '../target.js';
import { VolumeFiles, isType } from '../volume-files.js';
import type { SuperChoice } from '../device-access.js';
import { withReader } from '../volume-access.js';

export function cat(program: Command): void {
  program
    .command('cat')
    .summary('print files of a volume')
    .argument('<target...>', 'DEVICE:/path')
    .addOption(backupSuperOption())
    .addHelpText('after', examples('lunfs cat lun.img:/etc/fstab', 'lunfs cat /dev/mapper/lun0:/vm1.raw | sha256sum'))
    .action(async (texts: string[], options: SuperChoice) => {
      for (const { device, path } of texts.map(needTarget)) {
        await withReader('cat', device, options, async (volume) => {
          const files = new VolumeFiles(volume);
          const found = await files.find(Buffer.from(path), { follow: true });
          if (isType(found, MODE.DIR)) throw new UsageError('IS_A_DIRECTORY', 'EISDIR', `${device}:${path} is a directory; list it with "lunfs ls"`, { path });
          if (!isType(found, MODE.REG)) throw new UsageError('NOT_A_FILE', 'EINVAL', `${device}:${path} is no regular file`, { path });
          await toStdout(volumeReader(volume, found.blkno, found.size), () => undefined);
        });
      }
    });
}
