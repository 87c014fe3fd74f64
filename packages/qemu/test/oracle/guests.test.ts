/**
 * Guests without disks and without a system under real QEMU: found again by others, ended in each way, refused in QEMU's own words; the
 * command table against QEMU's schema. A guest with a system and disks of a volume: test/qemu.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Cleanup, must, tempDir } from '../../../../test/support/temp.js';
import { QmpSchema } from '../support/schema.js';
import { proveAccel } from '../../src/accel.js';
import { Definitions } from '../../src/definitions.js';
import { nbdNode, nicBackend, rawNode } from '../../src/devices.js';
import { type DiskSource, Guests } from '../../src/guests.js';
import { findProgram, isAlive } from '../../src/process.js';
import { QmpClient } from '../../src/qmp/client.js';
import { guestPaths, readRecord, writeRecord } from '../../src/run-files.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'qemu');
const runDirectory = path.join(directory, 'run');
const definitions = new Definitions(path.join(directory, 'guests'));
const noDisks: DiskSource = { attach: () => Promise.reject(new Error('no disks here')), release: () => Promise.resolve(), resize: () => Promise.resolve() };
const host = (): Guests => new Guests({ definitions, runDirectory, disks: noDisks });
cleanup.add(async () => {
  for (const name of definitions.names()) await host().stop(name, { timeoutMs: 0, force: true });
});
const define = (name: string, more: object = {}) => definitions.put({ name, memoryMiB: 32, accel: 'tcg', ...more }, { replace: true });

describe('a guest under QEMU', () => {
  it('is found by whoever comes later, and works on one command at a time', { timeout: 120_000 }, async () => {
    define('one', { machine: 'pc', vnc: true, channels: ['org.example.a-b'], nics: [{ kind: 'user' }] });
    const started = await host().start('one');
    expect(started).toMatchObject({ state: 'running', accel: 'tcg' });
    expect(fs.readlinkSync(`/proc/${started.pid}/exe`)).toMatch(/qemu-system-x86_64$/);
    const others = host();
    expect(await others.show('one')).toMatchObject({ state: 'running', pid: started.pid });
    await expect(others.start('one')).rejects.toMatchObject({ code: 'GUEST_RUNNING' });
    await expect(others.undefine('one')).rejects.toMatchObject({ code: 'GUEST_RUNNING' });
    for (const socket of [started.sockets!.serial!, started.sockets!.vnc!, started.sockets!.channels['org.example.a-b']]) expect(fs.statSync(socket).isSocket()).toBe(true);
    await others.withMonitor('one', async () => {
      // Who looks does not wait for who works.
      expect((await host().show('one')).state).toBe('running');
    });
    await others.pause('one');
    expect(await host().show('one')).toMatchObject({ state: 'paused', reason: 'paused by an operator' });
    await Promise.all([host().resume('one'), host().reset('one')]);
    expect((await host().show('one')).state).toBe('running');
    expect(await host().stop('one', { timeoutMs: 0 })).toBe('quit');
    expect(await host().show('one')).toMatchObject({ state: 'shut-off', reason: 'not running' });
    expect(fs.existsSync(path.join(runDirectory, 'one'))).toBe(false);
    expect(await host().stop('one')).toBe('was-off');
  });

  it('that died is told from one that ended in order, and from a process that has its number now', { timeout: 120_000 }, async () => {
    define('two', { machine: 'pc' });
    const killed = await host().start('two');
    process.kill(killed.pid!, 'SIGKILL');
    await expect.poll(async () => (await host().show('two')).state, { timeout: 20_000 }).toBe('crashed');
    const again = await host().start('two');
    process.kill(again.pid!, 'SIGTERM');
    await expect.poll(async () => (await host().show('two')).state, { timeout: 20_000 }).toBe('shut-off');
    const paths = guestPaths(runDirectory, 'two');
    const record = readRecord(paths)!;
    writeRecord(paths, { ...record, process: { ...record.process!, pid: process.pid } });
    expect((await host().show('two')).pid).toBeUndefined();
    expect(await host().stop('two', { force: true })).toBe('was-off');
  });

  it('whose starter died before it began is taken back by the next start', { timeout: 120_000 }, async () => {
    define('three', { machine: 'pc' });
    const first = await host().start('three');
    const paths = guestPaths(runDirectory, 'three');
    const { process: identity, ...record } = readRecord(paths)!;
    writeRecord(paths, record);
    expect(await host().show('three')).toMatchObject({ pid: first.pid });
    const second = await host().start('three');
    expect(isAlive(identity!)).toBe(false);
    expect(second.pid).not.toBe(first.pid);
    expect(await host().stop('three', { timeoutMs: 0 })).toBe('quit');
  });

  it('whose QEMU stands still is unreachable, and ends by force alone', { timeout: 120_000 }, async () => {
    define('four', { machine: 'pc' });
    const { pid } = await host().start('four');
    process.kill(pid!, 'SIGSTOP');
    expect(await host().show('four')).toMatchObject({ state: 'unreachable', pid });
    await expect(host().reset('four')).rejects.toMatchObject({ code: 'QMP_BUSY' });
    expect(await host().stop('four', { timeoutMs: 0, force: true })).toBe('killed');
  });

  it("that QEMU refuses is refused in QEMU's words, and nothing of it is left", { timeout: 120_000 }, async () => {
    define('five', { machine: 'pc-i440fx-99.9' });
    await expect(host().start('five')).rejects.toMatchObject({ code: 'QEMU_START', message: expect.stringMatching(/pc-i440fx-99\.9|unsupported machine type/) as string });
    define('five', { boot: { kind: 'kernel', kernel: '/nonexistent/vmlinuz' } });
    await expect(host().start('five')).rejects.toMatchObject({ code: 'QEMU_START', message: expect.stringContaining('/nonexistent/vmlinuz') as string });
    expect(fs.existsSync(path.join(runDirectory, 'five'))).toBe(false);
    expect(await host().show('five')).toMatchObject({ state: 'shut-off' });
  });
});

describe('what is asked of QEMU', () => {
  it('is in its schema, block nodes all the way down', { timeout: 120_000 }, async () => {
    define('schema', { machine: 'pc' });
    await host().start('schema');
    const schema = await host().withMonitor('schema', async (monitor) => new QmpSchema(await monitor.execute('query-qmp-schema')));
    const disk = { id: 'root', source: 'x:/y', readOnly: false, serial: 'root', keepSpace: false };
    const endpoint = { socket: '/s', exportName: '/y', device: 'x', path: '/y' };
    for (const one of [disk, { ...disk, readOnly: true }, { ...disk, keepSpace: true }]) {
      expect(schema.checkCommand('blockdev-add', nbdNode(one, endpoint, 0))).toEqual([]);
      expect(schema.checkCommand('blockdev-reopen', { options: [rawNode(one, 1)] })).toEqual([]);
    }
    expect(schema.checkCommand('netdev_add', nicBackend({ kind: 'user', mac: '' }, 0, undefined))).toEqual([]);
    expect(schema.checkCommand('netdev_add', nicBackend({ kind: 'tap', mac: '', device: 'tap0' }, 0, 'tap0'))).toEqual([]);
    // The check can fail.
    expect(schema.checkCommand('blockdev-add', { ...nbdNode(disk, endpoint, 0), 'reconnect-dealy': 1 })).toEqual(['blockdev-add: has no member reconnect-dealy']);
    expect(schema.checkCommand('block_resize', { 'node-name': 'a', size: '5' })).toHaveLength(1);
    expect(schema.checkCommand('blockdev-gone', {})).toHaveLength(1);
    await host().stop('schema', { timeoutMs: 0 });
  });

  it('refuses a second client of one monitor by name', { timeout: 120_000 }, async () => {
    define('busy', { machine: 'pc' });
    await host().start('busy');
    await host().withMonitor('busy', async () => {
      await expect(QmpClient.connect(guestPaths(runDirectory, 'busy').monitor, 'guest busy', { greetingMs: 300 })).rejects.toMatchObject({ code: 'QMP_BUSY' });
    });
    await host().stop('busy', { timeoutMs: 0 });
  });
});

describe('an accelerator', () => {
  it('that works runs the proof, one that does not exist fails it', { timeout: 60_000 }, async () => {
    fs.mkdirSync(runDirectory, { recursive: true });
    const program = findProgram('qemu-system-x86_64', 'qemu-system-x86');
    expect(await proveAccel('tcg', program, runDirectory)).toBe(true);
    expect(await proveAccel('xen' as 'kvm', program, runDirectory)).toBe(false);
    expect((await must('ls', ['-A', runDirectory])).split('\n').filter((name) => name.startsWith('.proof'))).toEqual([]);
  });
});
