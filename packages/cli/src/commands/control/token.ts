/** `lunfs token`: API tokens. */
import { type Command, Option } from 'commander';
import type { TokenFacts, TokenMadeFacts } from '@lunfs/control';
import { examples } from '../../command.js';
import { type ContextChoice, asks, clientOf, newKey } from '../../control-context.js';
import { print, printJson, table } from '../../output.js';
import { parseNumber } from '../../sizes.js';

export function token(program: Command): void {
  const group = program.command('token').summary('API tokens of the control plane').description('API tokens and sessions of the control plane. A token is shown once, when it is made.');
  asks(group.command('list').summary("list one's own tokens and sessions; an admin sees all").addHelpText('after', examples('lunfs token list')))
    .action(async (choice: ContextChoice) => {
      const tokens = await clientOf(choice).ask<TokenFacts[]>('GET', '/tokens');
      if (choice.json) printJson(tokens);
      else print(table(['Id', 'User', 'Kind', 'Name', 'Role', 'Until', 'Revoked'], tokens.map((one) => [one.id, one.user_name, one.kind, one.name, one.role, one.expires_at, one.revoked_at ?? ''])));
    });
  asks(group.command('create').summary("make a token of one's own").argument('<name>').addOption(new Option('--role <role>', "default: one's own; never more").choices(['viewer', 'operator', 'admin']))
    .option('--days <n>', 'good for so long', parseNumber, 365).addHelpText('after', examples('lunfs token create backup --role viewer --days 30')))
    .action(async (name: string, { role, days, ...choice }: ContextChoice & { role?: string; days: number }) => {
      const made = await clientOf(choice).ask<TokenMadeFacts>('POST', '/tokens', { body: { name, role, days }, idempotencyKey: newKey() });
      if (choice.json) printJson(made);
      else print(made.token);
    });
  asks(group.command('revoke').summary('end a token').argument('<id>').addHelpText('after', examples('lunfs token revoke ID')))
    .action(async (id: string, choice: ContextChoice) => {
      await clientOf(choice).ask('DELETE', `/tokens/${encodeURIComponent(id)}`, { idempotencyKey: newKey() });
    });
}
