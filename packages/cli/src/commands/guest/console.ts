/** `lunfs guest console`: this terminal becomes the guest's serial one. */
import net from 'node:net';
import type { Command } from 'commander';
import { IoError, UsageError } from '@lunfs/device';
import { examples } from '../../command.js';
import { guestsOf } from '../../guest-access.js';
import { note } from '../../output.js';

/** Ctrl-], as telnet and virsh have it. */
const ESCAPE = 0x1d;

export function console(group: Command): void {
  group
    .command('console')
    .summary("connect this terminal to the guest's serial console; Ctrl-] leaves")
    .description("Connect this terminal to the guest's serial console until Ctrl-] or the guest's end. One terminal at a time is served; what the guest said before is not kept.")
    .argument('<name>', 'the guest')
    .addHelpText('after', examples('lunfs guest console web1'))
    .action(async (name: string, _: object, command: Command) => {
      const { sockets } = await guestsOf(command).guests.show(name);
      if (sockets === undefined) throw new UsageError('GUEST_NOT_RUNNING', 'ESHUTDOWN', `guest ${name} is not running`, { name });
      if (sockets.serial === undefined) throw new UsageError('GUEST_NO_CONSOLE', 'ENXIO', `guest ${name} has no serial port ("serial": true in its definition)`, { name });
      await connectConsole(sockets.serial, name);
    });
}

async function connectConsole(path: string, name: string): Promise<void> {
  const socket = net.connect(path);
  const { stdin, stdout } = process;
  const raw = stdin.isTTY;
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', (cause) => reject(new IoError('CONSOLE', `cannot reach the console of guest ${name}: ${cause.message}`, { path }, cause)));
      socket.once('close', () => resolve());
      socket.once('connect', () => {
        note('guest console', `connected to ${name}; Ctrl-] leaves`);
        if (raw) stdin.setRawMode(true);
        socket.pipe(stdout, { end: false });
        stdin.on('data', (typed: Buffer) => {
          const leave = typed.indexOf(ESCAPE);
          socket.write(leave < 0 ? typed : typed.subarray(0, leave));
          if (leave >= 0) socket.end(() => socket.destroy());
        });
        stdin.once('end', () => socket.end(() => socket.destroy()));
      });
    });
  } finally {
    if (raw) stdin.setRawMode(false);
    stdin.pause();
  }
  if (raw) stdout.write('\r\n');
}
