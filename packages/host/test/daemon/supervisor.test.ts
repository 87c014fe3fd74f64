/** The supervising thread kills; what is dead already is no error. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { FenceDeadline, timeoutsOf } from '@lunfs/o2cb';
import { afterAll, expect, it } from 'vitest';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { Supervisor } from '../../dist/daemon/supervisor.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

it('kills who is fenced, and goes on when that one is dead and reaped already', async () => {
  const supervisor = await Supervisor.start(path.join(tempDir(cleanup, 'supervisor'), 'socket'), timeoutsOf());
  cleanup.add(() => supervisor.close());
  const killed = async (dead: boolean): Promise<[string, NodeJS.Signals | null]> => {
    const child = spawn('sleep', ['1000']);
    const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    if (dead) {
      child.kill('SIGTERM');
      await ended;
    }
    const token = supervisor.newToken(), deadline = new FenceDeadline();
    const told = new Promise<string>((resolve) => void supervisor.watch(token, child.pid!, deadline, resolve));
    const socket = net.connect(supervisor.socket);
    await once(socket, 'connect');
    deadline.lose();
    socket.write(token, 'latin1');
    const why = await told;
    socket.destroy();
    return [why, (await ended)[1]];
  };
  expect(await killed(true)).toEqual(['this node is fenced', 'SIGTERM']);
  expect(await killed(false)).toEqual(['this node is fenced', 'SIGKILL']);
});
