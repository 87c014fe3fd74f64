/** Which control plane a command means, and as whom it comes: a file with address, certificate and token, made by `lunfs control login` or, for the first admin, by `lunfs control serve`. */
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { type Command, Option } from 'commander';
import { UsageError } from '@lunfs/device';
import { type ClientContext, ControlClient } from '@lunfs/control';

/** Where a control plane on this host has its files. */
export const CONTROL_DIRECTORY = '/var/lib/lunfs/control';

export interface ContextChoice {
  readonly context?: string;
  readonly json?: boolean;
}

/** The options of every command that asks a control plane. */
export function asks(command: Command): Command {
  return command
    .addOption(new Option('--context <file>', 'file that says which control plane and as whom (default: LUNFS_CONTROL, else that of lunfs control login, else the one of a control plane on this host)'))
    .option('--json', 'print as JSON');
}

/** Where `lunfs control login` writes. */
export function ownContextFile(): string {
  return path.join(process.env.XDG_CONFIG_HOME ?? path.join(os.homedir(), '.config'), 'lunfs', 'client.json');
}

/** Throws NO_CONTEXT. */
export function readContext(given: string | undefined): ClientContext {
  const named = given ?? process.env.LUNFS_CONTROL;
  const files = named === undefined ? [ownContextFile(), path.join(CONTROL_DIRECTORY, 'client.json')] : [named];
  const file = files.find((one) => fs.existsSync(one));
  if (file === undefined) throw new UsageError('NO_CONTEXT', 'ENOENT', `no control plane is known (there is no ${files.join(', nor ')}): lunfs control login URL, or --context FILE`);
  try {
    const { url, ca, token } = JSON.parse(fs.readFileSync(file, 'utf8')) as Partial<ClientContext>;
    if (typeof url !== 'string' || typeof ca !== 'string' || typeof token !== 'string') throw new Error('url, ca or token is missing');
    return { url, ca, token };
  } catch (cause) {
    throw new UsageError('BAD_CONTEXT', 'EINVAL', `${file} cannot be used: ${(cause as Error).message}; make it anew with lunfs control login`, { file }, cause);
  }
}

export function clientOf({ context }: ContextChoice): ControlClient {
  return new ControlClient(readContext(context));
}

/** For one change: a request that is sent again after a lost answer must not do it twice. */
export function newKey(): string {
  return randomUUID();
}
