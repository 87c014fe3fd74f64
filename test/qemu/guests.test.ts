/**
 * A guest with a system of its own on disks of a volume, by `lunfs guest` and by the library below it, through what a guest meets: its console,
 * disks plugged in, grown and taken away, a pause, a full volume, live migrations while it writes and verifies, its end. One boot for all.
 */
import { spawn } from 'node:child_process';
import diagnostics from 'node:diagnostics_channel';
import fs from 'node:fs';
import path from 'node:path';
import { connectVolumeProcess, VolumeDisks } from '@lunfs/host';
import { Definitions, type GuestFacts, Guests, moveGuest } from '@lunfs/qemu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bootFiles } from '../../scripts/lib/machine/images.mjs';
import { QmpSchema } from '../../packages/qemu/test/support/schema.js';
import { makeGuestDisk } from '../support/machines.js';
import { Cleanup, exec, must, tempDir } from '../support/temp.js';
import { GuestAgent } from './agent.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'guests');
process.env.LUNFS_RUN_DIR = path.join(directory, 'run');
const LAUNCHER = path.resolve(import.meta.dirname, '../../packages/cli/bin/lunfs.cjs');
const image = path.join(directory, 'lun.img');
const stateDir = path.join(directory, 'guests');
const MIB = 2 ** 20;
const PORT = 'lunfs.agent';

const lunfs = (...args: string[]): Promise<string> => must(process.execPath, [LAUNCHER, ...args]);
const guest = (verb: string, ...args: string[]): Promise<string> => lunfs('guest', '--state-dir', stateDir, verb, ...args);
const show = async (): Promise<GuestFacts> => JSON.parse(await guest('show', '--json', 'vm')) as GuestFacts;
/** This host's guests, as the command line has them, and those of a second host that reaches the same volume. */
const hostOf = (run: string): Guests => new Guests({ definitions: new Definitions(stateDir), runDirectory: path.join(directory, 'run', run), disks: new VolumeDisks() });
const here = hostOf('guests');
const there = hostOf('there');
const exportsOf = async (): Promise<string[]> => {
  const control = await connectVolumeProcess(image);
  try {
    return (await control.status()).exports.map(({ name }) => name);
  } finally {
    control.close();
  }
};

interface Traffic {
  readonly sent?: { readonly execute: string; readonly arguments?: unknown };
}
const sent: { readonly execute: string; readonly arguments?: unknown }[] = [];
const listen = (message: unknown): void => {
  const { sent: command } = message as Traffic;
  if (command !== undefined) sent.push(command);
};

describe('lunfs guest', () => {
  const agent = new GuestAgent();

  beforeAll(async () => {
    diagnostics.subscribe('lunfs:qmp', listen);
    cleanup.add(() => void diagnostics.unsubscribe('lunfs:qmp', listen));
    fs.writeFileSync(image, '');
    fs.truncateSync(image, 900 * MIB);
    await lunfs('mkfs', '-q', '-C', '64K', '-J', 'size=16M', '-M', 'local', image);
    const root = await makeGuestDisk(path.join(directory, 'root.img'), 640 * MIB);
    await lunfs('cp', '-q', root, `${image}:/root.raw`);
    fs.rmSync(root);
    await lunfs('disk', 'create', `${image}:/data.raw`, '32M');
    const { kernel, initramfs } = await bootFiles();
    fs.writeFileSync(path.join(directory, 'vm.json'), JSON.stringify({
      name: 'vm', memoryMiB: 256, accel: 'tcg', channels: [PORT], disks: [{ id: 'root', source: `${image}:/root.raw` }],
      boot: { kind: 'kernel', kernel: kernel.image, initrd: initramfs, append: 'quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=unstable clocksource=acpi_pm no_timer_check lunfs.root=rw hostname=vm' },
    }));
    cleanup.add(async () => {
      for (const host of [here, there]) await host.stop('vm', { timeoutMs: 0, force: true }).catch(() => undefined);
    });
    cleanup.add(() => agent.close());
  }, 240_000);

  test('starts a guest from its definition, with its disk exported', { timeout: 240_000 }, async () => {
    expect(await guest('define', path.join(directory, 'vm.json'))).toMatch(/^vm: defined/);
    expect(await guest('list')).toMatch(/vm +shut-off/);
    const started = JSON.parse(await guest('start', '--json', 'vm')) as GuestFacts;
    expect(started).toMatchObject({ state: 'running', accel: 'tcg' });
    await agent.connect(started.sockets!.channels[PORT], { ready: true });
    expect((await agent.must('findmnt -n -o SOURCE / || grep " / " /proc/mounts; hostname'))).toMatch(/vda/);
    expect(await exportsOf()).toEqual(['/root.raw']);
    // One writer, on this host at least.
    expect((await exec(process.execPath, [LAUNCHER, 'disk', 'rm', `${image}:/root.raw`])).status + (await exec(process.execPath, [LAUNCHER, 'guest', '--state-dir', stateDir, 'undefine', 'vm'])).status).toBeGreaterThan(0);
    await expect(there.start('vm')).rejects.toMatchObject({ code: 'GUEST_DISK_IN_USE' });
  });

  test('connects a terminal to its serial port until Ctrl-]', { timeout: 120_000 }, async () => {
    const console = spawn(process.execPath, [LAUNCHER, 'guest', '--state-dir', stateDir, 'console', 'vm'], { stdio: ['pipe', 'pipe', 'pipe'] });
    cleanup.add(() => void console.kill('SIGKILL'));
    let seen = '';
    let told = '';
    console.stdout.on('data', (part: Buffer) => {
      seen += part.toString();
    });
    console.stderr.on('data', (part: Buffer) => {
      told += part.toString();
    });
    const ended = new Promise<number | null>((resolve) => void console.once('exit', resolve));
    await expect.poll(() => told, { timeout: 60_000 }).toContain('connected to vm');
    const typed = agent.must('while read -r line; do echo "heard $line"; [ "$line" = "good morning" ] && break; done < /dev/ttyS0 > /dev/ttyS0; echo done');
    await expect.poll(() => {
      console.stdin.write('good morning\r');
      return seen;
    }, { timeout: 60_000, interval: 500 }).toContain('heard good morning');
    expect(await typed).toBe('done\n');
    console.stdin.write('\x1d');
    expect(await ended).toBe(0);
  });

  test('plugs a disk in, grows it under the guest, takes it away; its bytes stay', { timeout: 240_000 }, async () => {
    await guest('attach', 'vm', 'data', `${image}:/data.raw`);
    await expect(here.attachDisk('vm', { id: 'data', source: `${image}:/data.raw` })).rejects.toMatchObject({ code: 'GUEST_DISK_EXISTS' });
    const find = 'for try in $(seq 200); do grep -lx data /sys/block/vd*/serial 2>/dev/null | cut -d/ -f4 | grep . && exit 0; sleep 0.1; done; exit 1';
    const name = (await agent.must(find)).trim();
    expect(await agent.must(`cat /sys/block/${name}/size; seq 1000000 | head -c 4194304 | dd of=/dev/${name} bs=1M iflag=fullblock oflag=direct status=none`)).toBe('65536\n');
    // While it reads and writes.
    const load = agent.must(`for i in $(seq 12); do dd if=/dev/${name} bs=64k count=64 iflag=direct status=none | dd of=/dev/${name} bs=64k seek=128 iflag=fullblock oflag=direct conv=notrunc status=none || exit 1; done`);
    await guest('resize', 'vm', 'data', '48M');
    expect(await agent.must(`for try in $(seq 200); do [ $(cat /sys/block/${name}/size) = 98304 ] && exit 0; sleep 0.1; done; cat /sys/block/${name}/size; exit 1`)).toBe('');
    await load;
    await agent.must(`head -c 1048576 /dev/zero | tr '\\0' x | dd of=/dev/${name} bs=1M seek=47 iflag=fullblock oflag=direct status=none`);
    await here.resizeDisk('vm', 'data', 64 * MIB);
    await here.detachDisk('vm', 'data');
    expect(await exportsOf()).toEqual(['/root.raw']);
    await agent.must(`[ ! -e /sys/block/${name} ]`);
    await expect(here.detachDisk('vm', 'data')).rejects.toMatchObject({ code: 'GUEST_DISK_UNKNOWN' });
    await here.attachDisk('vm', { id: 'data', source: `${image}:/data.raw`, readOnly: true });
    const again = (await agent.must(find)).trim();
    expect(await agent.must(`cat /sys/block/${again}/size /sys/block/${again}/ro; head -c 6 /dev/${again}; cmp -n 4194304 -i 0:8388608 /dev/${again} /dev/${again} && dd if=/dev/${again} bs=1M skip=47 count=1 status=none | tr -d x | wc -c`)).toBe('131072\n1\n1\n2\n3\n0\n');
    await here.detachDisk('vm', 'data');
  });

  test('pauses and resumes; the guest notices nothing', { timeout: 120_000 }, async () => {
    await guest('pause', 'vm');
    expect(await show()).toMatchObject({ state: 'paused', reason: 'paused by an operator' });
    await guest('resume', 'vm');
    expect(await agent.must('echo here')).toBe('here\n');
  });

  test('stops for a full volume, says so with the disk, and goes on when there is room', { timeout: 240_000 }, async () => {
    await lunfs('disk', 'create', `${image}:/thin.raw`, '700M');
      const [{ freeBytes }] = JSON.parse(await lunfs('df', '--json', image)) as { freeBytes: number }[];
    const filler = Math.floor((freeBytes - 8 * MIB) / (4 * MIB)) * 4 * MIB;
    await lunfs('disk', 'create', '--thick', `${image}:/filler.raw`, String(filler));
    await here.attachDisk('vm', { id: 'thin', source: `${image}:/thin.raw` });
    const name = (await agent.must('for try in $(seq 200); do grep -lx thin /sys/block/vd*/serial 2>/dev/null | cut -d/ -f4 | grep . && exit 0; sleep 0.1; done; exit 1')).trim();
    const written = agent.must(`head -c 4194304 /dev/urandom > /dev/shm/one
for i in $(seq 0 15); do dd if=/dev/shm/one of=/dev/${name} bs=1M seek=$((4 * i)) oflag=direct conv=notrunc status=none || exit 1; done
for i in $(seq 0 15); do cmp -n 4194304 -i 0:$((4194304 * i)) /dev/shm/one /dev/${name} || exit 1; done
rm /dev/shm/one; echo same`);
    await expect.poll(async () => (await show()).state, { timeout: 120_000, interval: 500 }).toBe('stopped');
    expect(await show()).toMatchObject({ reason: expect.stringContaining('out of space: the volume of disk thin is full') as string, troubles: [{ disk: 'thin', trouble: 'no-space' }] });
    expect(await guest('list')).toMatch(/vm +stopped .*out of space/);
    await lunfs('disk', 'rm', `${image}:/filler.raw`);
    await guest('resume', 'vm');
    expect(await written).toBe('same\n');
    expect(await show()).toMatchObject({ state: 'running', troubles: [] });
    await here.detachDisk('vm', 'thin');
  });

  test('moves to another QEMU and back while it writes and verifies; a cancelled move leaves it where it is', { timeout: 400_000 }, async () => {
    const verify = agent.must(`n=0; while [ ! -e /stop ]; do n=$((n+1)); seq $n $((n+30000)) > /work && sync && echo 3 > /proc/sys/vm/drop_caches; seq $n $((n+30000)) | cmp - /work || exit 1; echo $n > /round; done; cat /round`);
    // A command that the guest runs across a migration answers on the port's new socket.
    const cancel = new AbortController();
    const stays = moveGuest(here, there, 'vm', { bandwidth: 8 * MIB, signal: cancel.signal, progress: () => cancel.abort() });
    await expect(stays).rejects.toMatchObject({ code: 'MIGRATION_CANCELLED' });
    expect(await show()).toMatchObject({ state: 'running' });
    expect(await there.show('vm')).toMatchObject({ state: 'shut-off' });

    await expect(moveGuest(here, there, 'vm', { handOver: () => Promise.reject(new Error('no lease')) })).rejects.toThrow('no lease');
    expect(await show()).toMatchObject({ state: 'running' });

    const downtimes: number[] = [];
    for (const [from, to] of [[here, there], [there, here]] as const) {
      const states: string[] = [];
      const moved = await moveGuest(from, to, 'vm', {
        handOver: async () => {
          states.push((await from.show('vm')).state, (await to.show('vm')).state);
        },
      });
      expect(states).toEqual(['paused', 'incoming']);
      expect(moved.downtimeMs).toBeGreaterThan(0);
      downtimes.push(moved.downtimeMs);
      expect(await from.show('vm')).toMatchObject({ state: 'shut-off', reason: 'not running' });
      expect(await to.show('vm')).toMatchObject({ state: 'running' });
      expect(await exportsOf()).toEqual(['/root.raw']);
      await agent.connect((await to.show('vm')).sockets!.channels[PORT], { ready: false });
      expect(await agent.must('echo here')).toBe('here\n');
    }
    console.log(`live migrations: the guest stood still for ${downtimes.map((ms) => ms.toFixed(0)).join(' and ')} ms`);
    await agent.must('touch /stop');
    expect(Number(await verify)).toBeGreaterThan(1);
    expect((await agent.must('dmesg')).split('\n').filter((line) => /I\/O error|EXT4-fs error|WARNING|BUG/.test(line))).toEqual([]);
  });

  test('sent nothing that the installed QEMU does not have in its schema', { timeout: 120_000 }, async () => {
    const schema = await here.withMonitor('vm', async (monitor) => new QmpSchema(await monitor.execute('query-qmp-schema')));
    expect([...new Set(sent.map(({ execute }) => execute))].sort()).toEqual([
      'blockdev-add', 'blockdev-del', 'blockdev-reopen', 'block_resize', 'cont', 'device_add', 'device_del', 'migrate', 'migrate-continue', 'migrate-incoming', 'migrate-set-capabilities',
      'migrate-set-parameters', 'migrate_cancel', 'qmp_capabilities', 'qom-get', 'query-block', 'query-migrate', 'query-named-block-nodes', 'query-qmp-schema', 'query-status', 'quit',
    ].sort());
    expect(sent.flatMap(({ execute, arguments: args }) => schema.checkCommand(execute, args))).toEqual([]);
  });

  test('stops when the guest powers itself off in time; its exports end, the volume is whole', { timeout: 240_000 }, async () => {
    await agent.must('( sleep 5; sync; mount -o remount,ro /; busybox poweroff -f ) > /dev/null 2>&1 &');
    expect(JSON.parse(await guest('stop', '--json', '--timeout', '120', 'vm'))).toEqual({ name: 'vm', how: 'shut-down' });
    expect(await guest('list')).toMatch(/vm +shut-off/);
    await expect(connectVolumeProcess(image)).rejects.toMatchObject({ code: 'NO_VOLUME_PROCESS' });
    expect(await lunfs('check', image)).toContain('clean');
    await guest('undefine', 'vm');
    expect(await guest('list')).not.toContain('vm');
  });
});
