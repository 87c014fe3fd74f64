/** `lunfs guest start`, `stop`, `reset`, `pause`, `resume`. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import type { Guests } from '@lunfs/qemu';
import { examples } from '../../command.js';
import { guestsOf } from '../../guest-access.js';
import { print, printJson } from '../../output.js';

export function start(group: Command): void {
  group
    .command('start')
    .summary('start a guest')
    .description('Start a guest: its disks are exported, by the process that has their volume or else by a new one, and its QEMU runs in the background.')
    .argument('<name>', 'the guest')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs guest start web1'))
    .action(async (name: string, options: { json?: boolean }, command: Command) => {
      const facts = await guestsOf(command).guests.start(name);
      if (options.json) printJson(facts);
      else print(`${name}: ${facts.state}, process ${facts.pid}, ${facts.accel}`);
    });
}

const HOW = { 'was-off': 'was not running', 'shut-down': 'shut down', quit: 'did not shut down in time; its QEMU was told to end', killed: 'its QEMU was killed' } as const;

export function stop(group: Command): void {
  group
    .command('stop')
    .summary('shut a guest down')
    .description('Ask a guest to shut down (its ACPI power button); when the time is up, end its QEMU, which is to the guest like a loss of power. Its exports end with it.')
    .argument('<name>', 'the guest')
    .option('--timeout <seconds>', 'time to shut down; 0 does not ask', parseSeconds, 60)
    .option('-f, --force', 'kill a QEMU that does not end')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs guest stop web1', 'lunfs guest stop --timeout 0 --force web1'))
    .action(async (name: string, options: { timeout: number; force?: boolean; json?: boolean }, command: Command) => {
      const how = await guestsOf(command).guests.stop(name, { timeoutMs: options.timeout * 1000, force: options.force });
      if (options.json) printJson({ name, how });
      else print(`${name}: ${HOW[how]}`);
    });
}

function parseSeconds(text: string): number {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value <= 86_400) return value;
  throw new UsageError('BAD_TIME', 'EINVAL', `"${text}" is no time; write seconds, at most a day`, { value: text });
}

/** A command that does one thing to one running guest. */
function single(name: string, summary: string, work: (guests: Guests, guest: string) => Promise<void>): (group: Command) => void {
  return (group) => {
    group
      .command(name)
      .summary(summary)
      .argument('<name>', 'the guest')
      .addHelpText('after', examples(`lunfs guest ${name} web1`))
      .action((guest: string, _: object, command: Command) => work(guestsOf(command).guests, guest));
  };
}

export const reset = single('reset', 'reset a guest, as its reset button would', (guests, name) => guests.reset(name));
export const pause = single('pause', "stop a guest's processors", (guests, name) => guests.pause(name));
export const resume = single('resume', 'let a guest go on that is paused, or was stopped for trouble with a disk', (guests, name) => guests.resume(name));
