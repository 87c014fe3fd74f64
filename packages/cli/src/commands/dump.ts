/** `lunfs dump`: any structure of a volume, as it lies on the disk. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { RawReader } from '@lunfs/ocfs2';
import { backupSuperOption, examples } from '../command.js';
import { dumpers, inodeOfPath, needNumber } from '../dump/dumpers.js';
import { render } from '../dump/render.js';
import { print, printJson } from '../output.js';
import { parseTarget, needDevice } from '../target.js';
import { type SuperChoice, withRawDevice } from '../device-access.js';

export function dump(program: Command): void {
  program
    .command('dump')
    .summary('show structures of a volume as they lie on the disk')
    .description(`Show structures of a volume as they lie on the disk; what waits in a journal is not seen.\n\nWHAT is one of:\n${dumpers.map(({ name, text }) => `  ${name.padEnd(12)}${text}`).join('\n')}`)
    .argument('<target>', 'DEVICE, or DEVICE:/path for the inode of a file (DEVICE://name for a system file)')
    .argument('[what]', 'default: superblock, or inode when a path is given')
    .argument('[which]', 'number of the inode, block, backup or slot, or name of the allocator')
    .option('--json', 'print as JSON')
    .addOption(backupSuperOption())
    .addHelpText('after', examples('lunfs dump lun.img', 'lunfs dump lun.img:/vm1.raw', 'lunfs dump lun.img:/vm1.raw extents', 'lunfs dump lun.img block 65', 'lunfs dump lun.img groups inode_alloc:0000', 'lunfs dump --json lun.img journal 0'))
    .action(async (text: string, given: string | undefined, word: string | undefined, options: SuperChoice & { json?: boolean }) => {
      const target = parseTarget(text);
      const device = target?.device ?? needDevice(text);
      const what = given ?? (target === undefined ? 'superblock' : 'inode');
      const dumper = dumpers.find((one) => one.name === what);
      if (dumper === undefined) throw new UsageError('BAD_ARGUMENTS', 'EINVAL', `"${what}" is nothing that can be dumped; known are ${dumpers.map((one) => one.name).join(', ')}`, { what });
      const shown = await withRawDevice('dump', device, { beside: true, backupSuper: options.backupSuper }, async (opened) => {
        const reader = await RawReader.open(opened);
        const inode = async () => (target !== undefined && word === undefined ? inodeOfPath(reader, target.path) : needNumber('inode', word));
        return dumper.dump({ reader, inode, word });
      });
      if (options.json) printJson(shown);
      else print(render(shown));
    });
}
