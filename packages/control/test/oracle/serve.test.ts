/** `lunfs control serve` as its operator runs it, and the commands that ask it. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { LUNFS, type Ran, finish } from '../../../../test/support/lunfs-host.js';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

it('serves, is asked, is killed, and serves again', { timeout: 1_200_000 }, async () => {
  const directory = tempDir(cleanup, 'serve');
  const data = path.join(directory, 'data');
  const env = { ...process.env, LUNFS_CONTROL: path.join(data, 'client.json'), XDG_CONFIG_HOME: path.join(directory, 'config') };
  const lunfs = (args: readonly string[], input = ''): Promise<Ran> => {
    const child = spawn(process.execPath, [LUNFS, ...args], { stdio: ['pipe', 'pipe', 'pipe'], env });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    return finish(child);
  };
  const must = async (args: readonly string[], input = ''): Promise<string> => {
    const { code, stdout, stderr } = await lunfs(args, input);
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };
  const serve = async (port: string): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [LUNFS, 'control', 'serve', '--data', data, '--port', port], { stdio: ['ignore', 'ignore', 'pipe'] });
    cleanup.add(() => void child.kill('SIGKILL'));
    await new Promise<void>((resolve, reject) => {
      let said = '';
      child.stderr.on('data', (part: Buffer) => {
        said += part.toString();
        if (said.includes('listening at')) resolve();
      });
      child.once('exit', () => reject(new Error(said)));
    });
    return child;
  };

  const first = await serve('0');
  await expect.poll(() => fs.existsSync(env.LUNFS_CONTROL), { timeout: 60_000 }).toBe(true);
  expect(fs.statSync(env.LUNFS_CONTROL).mode & 0o777).toBe(0o600);
  expect(fs.statSync(path.join(data, 'control.db')).mode & 0o777).toBe(0o600);
  const { url, ca } = JSON.parse(fs.readFileSync(env.LUNFS_CONTROL, 'utf8')) as { url: string; ca: string };
  expect(JSON.parse(await must(['user', 'create', 'alice', '--role', 'operator', '--json'], 'correct horse battery\n'))).toMatchObject({ name: 'alice', role: 'operator', enabled: true });
  expect(await lunfs(['user', 'create', 'alice'], 'correct horse battery\n')).toMatchObject({ code: 1, stderr: expect.stringContaining('there is a user alice already') as string });
  expect(await must(['token', 'create', 'backup', '--role', 'viewer', '--days', '3'])).toMatch(/^lunfs_\S+\n$/);
  expect(await must(['event', 'list'])).toMatch(/user\.created +admin +user alice with the role operator\n.*token\.created +admin +token backup/s);
  expect(JSON.parse(await must(['task', 'list', '--json']))).toEqual([]);
  // One database, one control plane.
  expect(await lunfs(['control', 'serve', '--data', data, '--port', '0'])).toMatchObject({ code: 1, stderr: expect.stringContaining("another control plane's at the moment") as string });

  const died = finish(first);
  first.kill('SIGKILL');
  await died;
  expect(await lunfs(['user', 'list'])).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be asked') as string });
  const second = await serve(new URL(url).port);
  expect(JSON.parse(await must(['user', 'list', '--json']))).toMatchObject([{ name: 'admin' }, { name: 'alice' }]);

  // Alice comes by her password, and can do what an operator may.
  const authority = path.join(directory, 'ca.pem');
  fs.writeFileSync(authority, ca);
  await must(['control', 'login', url, '--ca', authority, '--user', 'alice'], 'correct horse battery\n');
  env.LUNFS_CONTROL = path.join(directory, 'config/lunfs/client.json');
  expect(await must(['task', 'list'])).toContain('State');
  expect(await lunfs(['user', 'list'])).toMatchObject({ code: 1, stderr: expect.stringContaining('alice is operator here; this needs the role admin') as string });
  await must(['control', 'logout', '--context', env.LUNFS_CONTROL]);
  expect(await lunfs(['task', 'list'])).toMatchObject({ code: 1, stderr: expect.stringContaining('no control plane is known') as string });

  const stopped = finish(second);
  second.kill('SIGTERM');
  expect((await stopped).code).toBe(0);
});
