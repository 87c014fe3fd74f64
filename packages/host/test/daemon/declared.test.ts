/** The file that says what is to be mounted: what is kept in it, for how long, and that nothing in it is believed or silently lost. */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { type Declaration, DeclaredState, stateDirectory } from '../../src/daemon/declared.js';

const A: Declaration = { uuid: 'A'.repeat(32), device: '/dev/mapper/a', directory: '/srv/a', allowOther: true, seal: true, options: ['noatime'] };
const B: Declaration = { uuid: 'B'.repeat(32), device: '/dev/mapper/b', directory: '/srv/b', allowOther: false, seal: false, options: [] };
const BOOT = '11111111-2222-3333-4444-555555555555';

const cleanup = new Cleanup();
let directory: string;
let file: string;
beforeEach(() => {
  directory = path.join(tempDir(cleanup, 'declared'), 'state');
  file = path.join(directory, 'mounts.json');
});
afterAll(() => cleanup.run());

describe('what is kept', () => {
  it('comes back as it was put, in a file that only its owner reads', async () => {
    const state = DeclaredState.open(directory);
    await Promise.all([state.put(A), state.put(B)]);
    await state.put({ ...A, device: '/dev/mapper/renamed' });
    expect(DeclaredState.open(directory).mounts).toEqual([B, { ...A, device: '/dev/mapper/renamed' }]);
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
    await state.remove(B.uuid);
    expect(DeclaredState.open(directory).of(B.uuid)).toBeUndefined();
    expect(fs.readdirSync(directory)).toEqual(['mounts.json']);
  });

  it('for one boot, or at rest until the next one', async () => {
    const state = DeclaredState.open(directory, BOOT);
    await state.put({ ...A, boot: BOOT });
    await state.put(B);
    await state.unmounted(B.uuid);
    expect(DeclaredState.open(directory, BOOT).mounts).toEqual([{ ...A, boot: BOOT }, { ...B, unmounted: BOOT }]);
    expect(DeclaredState.open(directory, 'another-boot').mounts).toEqual([B]);
    await state.unmounted(A.uuid);
    await state.unmounted('C'.repeat(32));
    expect(state.mounts).toEqual([{ ...B, unmounted: BOOT }]);
  });

  it('not what could not be made durable', async () => {
    const state = DeclaredState.open(directory);
    await state.put(A);
    fs.mkdirSync(`${file}.new`);
    await expect(state.put(B)).rejects.toMatchObject({ code: 'STATE_WRITE', message: expect.stringContaining(file) as string });
    expect(state.mounts).toEqual([A]);
    fs.rmdirSync(`${file}.new`);
    await state.put(B);
    expect(DeclaredState.open(directory).mounts).toEqual([A, B]);
  });

  it('what a crash left of the next version is no version', async () => {
    await DeclaredState.open(directory).put(A);
    fs.writeFileSync(`${file}.new`, '{"kind": "lunf');
    expect(DeclaredState.open(directory).mounts).toEqual([A]);
  });
});

describe('a file that is not understood in every part is named, with what to do', () => {
  const whole = (mounts: unknown[]): object => ({ kind: 'lunfs mounts', version: 1, mounts });
  const cases: readonly (readonly [string, unknown, string])[] = [
    ['an empty file', '', 'it is no JSON'],
    ['half a file', JSON.stringify(whole([A])).slice(0, 60), 'it is no JSON'],
    ['a list', [], 'the file is no object'],
    ['another file', { kind: 'exports', version: 1, mounts: [] }, '"kind"'],
    ['a newer version', { ...whole([]), version: 2 }, 'its version is 2'],
    ['no mounts', { kind: 'lunfs mounts', version: 1 }, '"mounts" is no list'],
    ['something more', { ...whole([]), exports: [] }, '"exports" means nothing'],
    ['a mount that is none', whole([A, null]), 'mount 2 is no object'],
    ['a UUID that is none', whole([{ ...A, uuid: 'a'.repeat(32) }]), '"uuid"'],
    ['a relative directory', whole([{ ...A, directory: 'srv' }]), '"directory" is no absolute path'],
    ['a device with a NUL', whole([{ ...A, device: '/dev/\0' }]), '"device" is no absolute path'],
    ['a seal that is none', whole([{ ...A, seal: 'yes' }]), '"seal" is neither true nor false'],
    ['an option that is several', whole([{ ...A, options: ['noatime,suid'] }]), '"options"'],
    ['a boot that is none', whole([{ ...A, boot: 7 }]), '"boot" is no id of a boot'],
    ['more of a mount', whole([{ ...A, writeback: true }]), '"writeback" means nothing'],
    ['a volume twice', whole([A, { ...B, uuid: A.uuid }]), `uuid ${A.uuid} is there twice`],
    ['a directory twice', whole([A, { ...B, directory: A.directory }]), 'directory /srv/a is there twice'],
    ['a file that never ends', Buffer.alloc(2 << 20, ' '), 'longer than'],
  ];
  it.each(cases)('%s', (_, content, what) => {
    fs.mkdirSync(directory);
    const bytes = typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content);
    fs.writeFileSync(file, bytes);
    let message = '';
    try {
      DeclaredState.open(directory);
    } catch (error) {
      expect(error).toMatchObject({ code: 'STATE_BROKEN' });
      ({ message } = error as Error);
    }
    expect(message).toContain(file);
    expect(message).toContain(what);
    expect(message).toContain('move it away');
    expect(fs.readFileSync(file).equals(Buffer.from(bytes as string))).toBe(true);
  });

  it('one that cannot be read', () => {
    fs.mkdirSync(file, { recursive: true });
    expect(() => DeclaredState.open(directory)).toThrow(/cannot be read/);
  });
});

it('each lunfsd of a machine has a place of its own', () => {
  const run = tempDir(cleanup, 'declared-run');
  expect([stateDirectory(undefined, {}), stateDirectory('/x', {}), stateDirectory(undefined, { LUNFS_RUN_DIR: run })]).toEqual(['/var/lib/lunfs', '/x', path.join(run, 'state')]);
});
