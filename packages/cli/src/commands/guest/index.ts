/** `lunfs guest`: virtual machines of this host. */
import type { Command } from 'commander';
import { examples } from '../../command.js';
import { console } from './console.js';
import { define, list, show, undefine } from './definitions.js';
import { attach, detach, resize } from './disks.js';
import { pause, reset, resume, start, stop } from './life.js';

export function guest(program: Command): void {
  const group = program
    .command('guest')
    .summary('virtual machines of this host: define, start, stop, console, disks')
    .description(
      'QEMU guests of this host whose disks are files of lunfs volumes. A guest needs no daemon: it runs until it is stopped, and every command finds it again. Its disks are exported when it ' +
        'starts and no longer when it has stopped.',
    )
    .option('--state-dir <path>', 'where definitions are kept (default: /etc/lunfs/guests, without root in ~/.config/lunfs/guests)')
    .helpCommand(false)
    .addHelpText('after', examples('lunfs guest define web1.json', 'lunfs guest start web1', 'lunfs guest console web1', 'lunfs guest stop web1'));
  for (const add of [define, list, show, start, stop, reset, pause, resume, console, attach, detach, resize, undefine]) add(group);
}
