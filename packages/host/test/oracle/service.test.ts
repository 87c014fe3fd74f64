/** lunfsd under systemd: the units, as systemd-analyze reads them, and what lunfsd tells the manager that has started it, by systemd's own program. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LUNFS, LunfsHost } from '../../../../test/support/lunfs-host.js';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, exec, must, tempDir } from '../../../../test/support/temp.js';

/** Prints each datagram that comes to a socket, as the manager takes it. */
const LISTENER = '$| = 1; use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die $!; print "listening\\n"; while (defined $s->recv(my $m, 65536)) { print "$m\\n" if length $m }';

describe.skipIf(lacks('systemd'))('under systemd', () => {
  const cleanup = new Cleanup();
  afterAll(() => cleanup.run(), 60_000);

  it('the units are right, and start this lunfs', { timeout: 120_000 }, async () => {
    const root = tempDir(cleanup, 'units');
    await must(process.execPath, [LUNFS, 'install-units', '--root', root]);
    const units = ['lunfsd.service', 'lunfs-awake.service'].map((name) => path.join(root, 'etc/systemd/system', name));
    const verified = await exec('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', ...units]);
    expect(verified).toMatchObject({ status: 0, stderr: '' });
    const [text] = units.map((unit) => fs.readFileSync(unit, 'utf8'));
    expect(text).toContain(`ExecStart=${process.execPath} ${LUNFS} up --foreground\n`);
    expect(text).not.toContain('@');
    for (const name of ['mount.fuse.lunfs', 'umount.fuse.lunfs']) fs.accessSync(path.join(root, 'sbin', name), fs.constants.X_OK);
    // The oracle does find what is wrong.
    fs.writeFileSync(units[0], text.replace('KillMode=mixed', 'KillMode=gently'));
    expect((await exec('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', units[0]])).stderr).toContain('gently');
  });

  it('lunfsd tells that it is ready, what it is at, that it runs, and that it ends', { timeout: 180_000 }, async () => {
    const node = { number: 1, name: 'served', address: '127.0.98.1', port: 7798 };
    const host = new LunfsHost(cleanup, { name: 'ocfs2', nodes: [node], settings: { threshold: 7, idleMs: 5000 } }, node, '/dev/null');
    const socket = path.join(host.directory, 'notify');
    const listener = spawn('perl', ['-e', LISTENER, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    listener.stdout.on('data', (chunk: Buffer) => { said += chunk.toString(); });
    cleanup.add(() => void listener.kill('SIGKILL'));
    await expect.poll(() => said, { timeout: 30_000 }).toContain('listening');
    host.environment = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '2000000', WATCHDOG_PID: '1' };
    fs.mkdirSync(path.join(host.data, 'state'));
    fs.writeFileSync(path.join(host.data, 'state/mounts.json'), JSON.stringify({
      kind: 'lunfs mounts', version: 1, mounts: [{ uuid: '0123456789ABCDEF0123456789ABCDEF', device: '/dev/no-such', directory: host.mount, allowOther: true, seal: true, options: [] }],
    }));
    await host.up();
    await expect.poll(() => said, { timeout: 60_000 }).toMatch(/READY=1\nSTATUS=0 of 1 volumes mounted; .*mnt is awaited \(no device of this host carries the volume/);
    await expect.poll(() => said.split('WATCHDOG=1').length, { timeout: 60_000 }).toBeGreaterThan(3);
    await host.must('umount', host.mount);
    await expect.poll(() => said, { timeout: 60_000 }).toContain('STATUS=0 of 0 volumes mounted');
    await host.must('down');
    await expect.poll(() => said, { timeout: 60_000 }).toContain('STOPPING=1');
    expect(host.logs()).not.toContain('cannot be told');
  });
});
