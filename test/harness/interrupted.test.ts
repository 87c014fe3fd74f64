/** A run of tests that is ended from outside leaves nothing behind: no machine, daemon, mount, loop device or directory. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { bin, root } from '../../scripts/lib/run.mjs';
import { lacks } from '../support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../support/temp.js';
import { until } from '../support/until.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

/** Begins with all that a test of this project leaves to its clean-up, and goes on for ever. */
const TEST = (support: string): string => `
  import * as fs from 'node:fs';
  import path from 'node:path';
  import { test } from 'vitest';
  import { LunfsHost } from '${support}/lunfs-host.js';
  import { KernelNode } from '${support}/machines.js';
  import { mkfs } from '${support}/ocfs2-tools.js';
  import { Cleanup, loopDevice, tempDir } from '${support}/temp.js';

  test('goes on', { timeout: 600_000 }, async () => {
    const cleanup = new Cleanup();
    const lun = path.join(tempDir(cleanup, 'lun'), 'lun');
    await mkfs(lun, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2 });
    const node = { number: 1, name: 'one', address: '127.0.93.1', port: 7793 };
    const host = new LunfsHost(cleanup, { name: 'ocfs2', nodes: [node] }, node, await loopDevice(cleanup, lun));
    await host.up();
    await host.mountVolume();
    const kernel = await KernelNode.start(cleanup, { disks: [] });
    fs.writeFileSync(process.env.SAYS, JSON.stringify([kernel.machine.pid, ...await host.processes()]));
    for (;;) console.log(await host.do('date > $M/file; cat $M/file; sleep 1'));
  });
`;

test.skipIf(lacks('fuse', 'loop', 'kernel')).for([
  { how: 'SIGTERM to a script of ours', whom: 'script', signal: 'SIGTERM' },
  { how: 'SIGINT to vitest', whom: 'vitest', signal: 'SIGINT' },
  { how: 'SIGKILL to vitest', whom: 'vitest', signal: 'SIGKILL' },
] as const)('$how', { timeout: 600_000 }, async ({ whom, signal }) => {
  const project = tempDir(cleanup, 'interrupted'), temporary = path.join(project, 'tmp'), says = path.join(project, 'says');
  for (const directory of [temporary, path.join(project, 'test')]) fs.mkdirSync(directory);
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(project, 'node_modules'));
  fs.writeFileSync(path.join(project, 'test/goes-on.test.ts'), TEST(path.join(root, 'test/support')));
  const vitest = [bin('vitest'), 'run', '--root', project, '--config', path.join(root, 'vitest.config.js'), '--project', 'local'];
  const script = `import { endTogether, run } from '${root}/scripts/lib/run.mjs'; endTogether(); await run(process.execPath, ${JSON.stringify(vitest)}, { inherit: true });`;
  const [args, code] = whom === 'script' ? [['--input-type=module', '-e', script], 143] : [vitest, signal === 'SIGINT' ? 130 : null];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TMPDIR: temporary, LUNFS_TEST_DIR: temporary, SAYS: says } });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (said += String(part)));
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  cleanup.add(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await until('it has begun', () => fs.existsSync(says) || child.exitCode !== null, () => said);
  const left = JSON.parse(fs.readFileSync(says, 'utf8')) as number[];
  expect(left.length).toBeGreaterThanOrEqual(3); // QEMU, lunfsd, the volume process
  child.kill(signal);
  expect(await ended).toBe(code);
  const leftovers = async (): Promise<string[]> => [
    ...left.filter((pid) => fs.existsSync(`/proc/${pid}`)).map((pid) => `process ${pid}`),
    ...fs.readFileSync('/proc/self/mounts', 'utf8').split('\n').filter((line) => line.includes(temporary)),
    ...(await must('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE'])).split('\n').filter((line) => line.includes(temporary)),
    ...fs.readdirSync(temporary).filter((name) => name.startsWith('lunfs-')), // vitest leaves one of its own
  ];
  let last: string[] = [];
  await until('nothing is left', async () => (last = await leftovers()).length === 0, () => `${last.join('\n')}\n${said}`, { withinMs: 90_000 });
});
