/** `lunfs control login` and `logout`. */
import type { Command } from 'commander';
import * as fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { ControlClient, type TokenMadeFacts } from '@lunfs/control';
import { UsageError } from '@lunfs/device';
import { examples } from '../../command.js';
import { type ContextChoice, clientOf, ownContextFile } from '../../control-context.js';
import { note } from '../../output.js';

/** A line from the terminal without an echo, or from a pipe. */
export async function readPassword(prompt: string): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write(`${prompt}: `);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: silent, terminal: process.stdin.isTTY });
  try {
    for await (const line of lines) return line;
  } finally {
    lines.close();
    if (process.stdin.isTTY) process.stderr.write('\n');
  }
  throw new UsageError('NO_PASSWORD', 'EINVAL', 'no password was given: type it, or write it to the standard input');
}

export function login(group: Command): void {
  group
    .command('login')
    .summary('log in to a control plane')
    .description('Log in. The password is read from the terminal or the standard input; what the session needs is kept in ~/.config/lunfs/client.json.')
    .argument('<url>', 'https://HOST:PORT')
    .requiredOption('--ca <file>', "certificate of the control plane's authority, PEM (in its client.json as ca)")
    .option('--user <name>', 'user', 'admin')
    .addHelpText('after', examples('lunfs control login https://control.example.net:7443 --ca control-ca.pem --user alice'))
    .action(async (url: string, { ca: file, user }: { ca: string; user: string }) => {
      const ca = fs.readFileSync(file, 'utf8');
      const password = await readPassword(`password of ${user}`);
      const { token, expires_at } = await new ControlClient({ url, ca }).ask<TokenMadeFacts>('POST', '/sessions', { body: { name: user, password } });
      const own = ownContextFile();
      fs.mkdirSync(path.dirname(own), { recursive: true, mode: 0o700 });
      fs.rmSync(own, { force: true });
      fs.writeFileSync(own, `${JSON.stringify({ url, ca, token }, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' });
      note('control login', `logged in as ${user} until ${expires_at}`);
    });
}

export function logout(group: Command): void {
  group
    .command('logout')
    .summary('end the session')
    .option('--context <file>', 'file of the session')
    .addHelpText('after', examples('lunfs control logout'))
    .action(async (choice: ContextChoice) => {
      await clientOf(choice).ask('DELETE', '/sessions/current');
      fs.rmSync(choice.context ?? ownContextFile(), { force: true });
    });
}
