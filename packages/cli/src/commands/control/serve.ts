/** `lunfs control serve`: a control plane in the foreground, for a service manager. */
import type { Command } from 'commander';
import path from 'node:path';
import { Option } from 'commander';
import { Control } from '@lunfs/control';
import { examples } from '../../command.js';
import { CONTROL_DIRECTORY } from '../../control-context.js';
import { note } from '../../output.js';
import { parseNumber } from '../../sizes.js';

interface Options {
  readonly database?: string;
  readonly data: string;
  readonly listen: string;
  readonly port: number;
  readonly name: readonly string[];
  readonly logLevel: string;
}

export function serve(group: Command): void {
  group
    .command('serve')
    .summary('run a control plane, until Ctrl-C')
    .description('Run a control plane: its API over HTTPS, tasks, events. The first start makes a user "admin" and writes client.json, by which lunfs on this host comes as admin, into its directory.')
    .option('--database <url>', 'sqlite:/path/to/file, or postgres://user:password@host/name, which several control planes may share (default: a file in the directory)')
    .option('--data <dir>', 'its directory', CONTROL_DIRECTORY)
    .option('--listen <address>', 'address', '127.0.0.1')
    .option('--port <port>', 'port; 0: any', parseNumber, 7443)
    .option('--name <name>', 'a name or address by which it is reached, for its certificate (repeatable; the first is what it calls itself)', (one: string, all: readonly string[]) => [...all, one], [])
    .addOption(new Option('--log-level <level>', 'what it logs (JSON lines on stderr)').choices(['error', 'warn', 'info', 'debug']).default('info'))
    .addHelpText('after', examples('lunfs control serve', 'lunfs control serve --listen 0.0.0.0 --name control.example.net --database postgres://lunfs@db/lunfs'))
    .action(async ({ database, data, listen, port, name, logLevel }: Options) => {
      const control = await Control.start({ database, directory: path.resolve(data), host: listen, port, names: name, logLevel });
      note('control serve', `listening at ${control.url}`);
      if (control.firstClient !== undefined) note('control serve', `user admin was made; ${control.firstClient} is how to come as admin (lunfs user --help, to set his password)`);
      await new Promise<void>((resolve) => {
        process.once('SIGINT', resolve);
        process.once('SIGTERM', resolve);
      });
      await control.stop();
    });
}
