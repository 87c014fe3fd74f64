/** `npm start`: it does what it says, and leaves nothing behind, however it ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lacks } from '../support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../support/temp.js';

const START = path.resolve(import.meta.dirname, '../../scripts/start.mjs');

describe.skipIf(lacks('fuse', 'loop', 'qemu', 'kernel'))('npm start', () => {
  const cleanup = new Cleanup();
  afterAll(() => cleanup.run(), 120_000);

  /** Starts it; `said` is what it has printed so far. */
  function start(name: string): { child: ChildProcess; lun: string; said: () => string; ended: Promise<number | null>; says: (what: string) => Promise<void> } {
    const directory = tempDir(cleanup, name);
    const child = spawn(process.execPath, [START, '--dir', path.join(directory, 'work')], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TMPDIR: directory } });
    cleanup.add(async () => {
      child.kill('SIGTERM');
      await ended;
    });
    let said = '';
    const waiting: { what: string; resolve: () => void }[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (part: Buffer) => {
        said += part.toString();
        for (const { what, resolve } of waiting) if (said.includes(what)) resolve();
      });
    }
    const ended = new Promise<number | null>((resolve) => {
      child.once('close', resolve);
    });
    const says = (what: string): Promise<void> => Promise.race([
      new Promise<void>((resolve) => void waiting.push({ what, resolve })),
      ended.then((code) => { throw new Error(`it ended with ${code} before it said "${what}":\n${said}`); }),
    ]);
    return { child, lun: path.join(directory, 'work/lun.img'), said: () => said, ended, says };
  }

  /** No daemon, machine, mount, loop device or directory of it. */
  async function nothingLeft(lun: string, said: string): Promise<void> {
    const run = /\/tmp\/lunfs-start-\w+/.exec(said)?.[0];
    const daemons = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
      try {
        return run !== undefined && fs.readlinkSync(`/proc/${pid}/fd/2`).startsWith(`${run}/`);
      } catch {
        return false;
      }
    });
    expect(daemons).toEqual([]);
    expect(fs.readdirSync(path.dirname(path.dirname(lun))).filter((name) => name.startsWith('lunfs-'))).toEqual([]);
    expect((await must('losetup', ['--associated', lun])).trim()).toBe('');
    if (run !== undefined) {
      expect(fs.existsSync(run)).toBe(false);
      expect(fs.readFileSync('/proc/self/mounts', 'utf8')).not.toContain(run);
    }
  }

  it('three hosts, a guest, a death and a recovery', { timeout: 900_000 }, async () => {
    const { lun, said, ended } = start('whole');
    expect([await ended, said()]).toEqual([0, expect.stringMatching(/What ran, in [\d.]+ s:/)]);
    expect(said()).not.toContain('left out');
    for (const line of [
      /lunfs mount on host2 and host3, at once +[\d.]+ s; domain members 1, 2, 3\n/, /append in turn .* +[\d.]+ s; host2 \d+ rounds, host3 \d+ rounds, all synced\n/,
      /host3 is killed .* host1 wrote to a file that host3 held after [\d.]+ s, host2 after [\d.]+ s; a silent host is dead after 14 s\n/,
      /all that host3 had synced is there +[\d.]+ s; \d+ lines/, /the guest wrote meanwhile +[\d.]+ s; [1-9]\d* writes synced/, /host3 comes back/, /lunfs check +[\d.]+ s; clean\n/, /fsck\.ocfs2 -fn +[\d.]+ s; all passes succeeded\n/,
      /read back from the LUN and compared +[\d.]+ s; sha256 [0-9a-f]{16}… both times\n/,
    ]) expect(said()).toMatch(line);
    await nothingLeft(lun, said());
  });

  it('Ctrl-C while two hosts are joining', { timeout: 600_000 }, async () => {
    const { child, lun, said, ended, says } = start('stopped');
    await says('lunfs mount on host2 and host3, at once … ');
    child.kill('SIGINT');
    expect([await ended, said()]).toEqual([130, expect.stringMatching(/start: SIGINT, cleaning up\n(stopped\n)?$/)]);
    await nothingLeft(lun, said());
  });
});
