/** The `lunfs` command. `bin/lunfs.cjs` calls `main`. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { UsageError } from '@lunfs/device';
import { Unsuccessful, exitCode } from './command.js';
import { commands } from './commands/index.js';
import { printError } from './output.js';

/** Run one command line (without program name). Resolves to the exit code; everything is printed by then. */
export async function main(given: readonly string[]): Promise<number> {
  // As in cp(1): alone it means always, and never takes the next word for its value.
  const argv = given.map((word) => (word === '--reflink' ? '--reflink=always' : word));
  // Whoever reads us may stop: `lunfs ls DEVICE | head`.
  process.stdout.on('error', () => undefined);
  const program = await buildProgram(argv);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    const name = commandName(program, argv);
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      // Its page is printed.
      if (error.code === 'commander.help') return await exitCode(name, error);
      const help = `lunfs ${name === '' ? '' : `${name} `}--help`;
      printError(name, new UsageError('BAD_USAGE', 'EINVAL', `${error.message.replace(/^error: /, '')} (see ${help})`), argv.includes('--json'));
    } else if (!(error instanceof Unsuccessful)) printError(name, error, argv.includes('--json'));
    return await exitCode(name, error);
  }
}

/** The program with the command that the command line names, or with all of them if it names none (help, a misspelt name). */
async function buildProgram(argv: readonly string[]): Promise<Command> {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  const program = new Command('lunfs');
  program
    .description('OCFS2 volumes on shared LUNs, from userspace.\n\nDEVICE is a block device (for a LUN /dev/mapper/NAME) or an image file; DEVICE:/path is a file inside its volume.')
    .version(version, '-V, --version')
    .helpCommand(false)
    .showSuggestionAfterError()
    .exitOverride()
    // Errors are printed once, by `main`.
    .configureOutput({ writeErr: (text) => void (text.startsWith('error:') || text.startsWith('(Did you mean') ? undefined : process.stderr.write(text)) });
  const word = argv.find((one) => !one.startsWith('-'));
  const named = commands.filter(({ name }) => name === word);
  const wanted = named.length > 0 || argv.some((one) => one === '-V' || one === '--version') ? named : commands;
  for (const { load } of wanted) (await load())(program);
  return program;
}

/** Name of the command that a command line means, `disk create` for nested ones; empty when it means none. */
function commandName(program: Command, argv: readonly string[]): string {
  const names: string[] = [];
  let at = program;
  for (const word of argv.filter((one) => !one.startsWith('-'))) {
    const next = at.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (next === undefined) break;
    names.push(next.name());
    at = next;
  }
  return names.join(' ');
}
