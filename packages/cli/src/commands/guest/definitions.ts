/** `lunfs guest define`, `list`, `show`, `undefine`. */
import * as fs from 'node:fs';
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { examples } from '../../command.js';
import { guestsOf, showGuest } from '../../guest-access.js';
import { print, printJson, table } from '../../output.js';

export function define(group: Command): void {
  group
    .command('define')
    .summary('make a guest known, from a JSON document')
    .description(
      'Make a guest known, from a JSON document: {"name": "web1", "memoryMiB": 2048, "cpus": 2, "disks": [{"id": "root", "source": "/dev/mapper/lun0:/web1.raw"}], "nics": [{"kind": "bridge", "bridge": "br0"}]}. ' +
        'What is left out gets its default; "lunfs guest show --json" prints the whole. Nothing is started.',
    )
    .argument('<file>', 'the document, or - for standard input')
    .option('--replace', 'give a guest that is known this definition; it counts from its next start on')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs guest define web1.json', 'lunfs guest define --replace - < web1.json'))
    .action((file: string, options: { replace?: boolean; json?: boolean }, command: Command) => {
      const text = fs.readFileSync(file === '-' ? 0 : file, 'utf8');
      let document: unknown;
      try {
        document = JSON.parse(text);
      } catch (cause) {
        throw new UsageError('BAD_JSON', 'EINVAL', `${file} is no JSON document: ${(cause as Error).message}`, { file }, cause);
      }
      const definition = guestsOf(command).definitions.put(document, { replace: options.replace ?? false });
      if (options.json) printJson(definition);
      else print(`${definition.name}: defined (${definition.uuid})`);
    });
}

export function list(group: Command): void {
  group
    .command('list')
    .alias('ls')
    .summary('list guests with what they are doing')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs guest list'))
    .action(async (options: { json?: boolean }, command: Command) => {
      const all = await guestsOf(command).guests.list();
      if (options.json) printJson(all);
      else print(table(['Guest', 'State', '>CPUs', '>MiB', '>Process', 'Reason'], all.map(({ name, state, definition, pid, reason }) => [name, state, String(definition.cpus), String(definition.memoryMiB), String(pid ?? ''), reason])));
    });
}

export function show(group: Command): void {
  group
    .command('show')
    .summary('show a guest: state and reason, machine, disks, sockets')
    .argument('<name>', 'the guest')
    .option('--json', 'print as JSON, with its whole definition')
    .addHelpText('after', examples('lunfs guest show web1'))
    .action(async (name: string, options: { json?: boolean }, command: Command) => {
      const facts = await guestsOf(command).guests.show(name);
      if (options.json) printJson(facts);
      else print(showGuest(facts));
    });
}

export function undefine(group: Command): void {
  group
    .command('undefine')
    .summary('forget a guest that does not run; its disks stay')
    .argument('<name>', 'the guest')
    .addHelpText('after', examples('lunfs guest undefine web1'))
    .action(async (name: string, _: object, command: Command) => {
      await guestsOf(command).guests.undefine(name);
    });
}
