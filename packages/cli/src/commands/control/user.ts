/** `lunfs user`: users of the control plane. */
import { type Command, Option } from 'commander';
import type { ControlClient, UserFacts } from '@lunfs/control';
import { UsageError } from '@lunfs/device';
import { examples } from '../../command.js';
import { type ContextChoice, asks, clientOf, newKey } from '../../control-context.js';
import { print, printJson, table } from '../../output.js';
import { readPassword } from './login.js';

const roleOption = (): Option => new Option('--role <role>', 'viewer: sees all; operator: also changes storages and tasks; admin: also users and hosts').choices(['viewer', 'operator', 'admin']);

async function userNamed(client: ControlClient, name: string): Promise<UserFacts> {
  const found = (await client.ask<UserFacts[]>('GET', '/users')).find((one) => one.name === name);
  if (found === undefined) throw new UsageError('NO_USER', 'ENOENT', `there is no user ${name}; lunfs user list shows all`);
  return found;
}

export function user(program: Command): void {
  const group = program.command('user').summary('users of the control plane').description('Users of the control plane.');
  asks(group.command('list').summary('list users').addHelpText('after', examples('lunfs user list')))
    .action(async (choice: ContextChoice) => {
      const users = await clientOf(choice).ask<UserFacts[]>('GET', '/users');
      if (choice.json) printJson(users);
      else print(table(['Name', 'Role', 'State', 'Since'], users.map((one) => [one.name, one.role, one.enabled ? 'enabled' : 'disabled', one.created_at])));
    });
  asks(group.command('create').summary('make a user; the password is read from the terminal or the standard input').argument('<name>').addOption(roleOption().default('viewer')).addHelpText('after', examples('lunfs user create alice --role operator')))
    .action(async (name: string, { role, ...choice }: ContextChoice & { role: string }) => {
      const made = await clientOf(choice).ask<UserFacts>('POST', '/users', { body: { name, role, password: await readPassword(`password for ${name}`) }, idempotencyKey: newKey() });
      if (choice.json) printJson(made);
    });
  asks(group.command('update').summary('change a user').argument('<name>').addOption(roleOption()).option('--password', 'set a password, read from the terminal or the standard input').option('--enable').option('--disable', 'he can do nothing any more')
    .addHelpText('after', examples('lunfs user update alice --role admin', 'lunfs user update admin --password', 'lunfs user update bob --disable')))
    .action(async (name: string, { role, password, enable, disable, ...choice }: ContextChoice & { role?: string; password?: boolean; enable?: boolean; disable?: boolean }) => {
      const client = clientOf(choice);
      const { id } = await userNamed(client, name);
      const body = { role, password: password ? await readPassword(`new password for ${name}`) : undefined, enabled: disable ? false : enable ? true : undefined };
      const changed = await client.ask<UserFacts>('PATCH', `/users/${id}`, { body, idempotencyKey: newKey() });
      if (choice.json) printJson(changed);
    });
  asks(group.command('delete').summary('remove a user with his tokens').argument('<name>').addHelpText('after', examples('lunfs user delete bob')))
    .action(async (name: string, choice: ContextChoice) => {
      const client = clientOf(choice);
      await client.ask('DELETE', `/users/${(await userNamed(client, name)).id}`, { idempotencyKey: newKey() });
    });
}
