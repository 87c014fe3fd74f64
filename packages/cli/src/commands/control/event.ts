/** `lunfs event`: what happened. */
import type { Command } from 'commander';
import type { EventFacts } from '@lunfs/control';
import { examples } from '../../command.js';
import { type ContextChoice, asks, clientOf } from '../../control-context.js';
import { print, printJson, table } from '../../output.js';
import { parseNumber } from '../../sizes.js';

export function event(program: Command): void {
  const group = program.command('event').summary('events of the control plane').description('What happened, to what, by whom.');
  asks(group.command('list').summary('list events, newest last').option('--limit <n>', 'so many', parseNumber, 50).addHelpText('after', examples('lunfs event list')))
    .action(async ({ limit, ...choice }: ContextChoice & { limit: number }) => {
      const events = (await clientOf(choice).ask<EventFacts[]>('GET', `/events?limit=${limit}`)).reverse();
      if (choice.json) printJson(events);
      else print(table(['Time', 'Severity', 'Type', 'By', 'Message'], events.map((one) => [one.time, one.severity, one.type, one.user_name ?? '', one.message])));
    });
}
