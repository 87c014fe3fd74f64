/** Ways in and out of a mount, each in a process of its own: none hangs, none leaves a dead mount behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isStaleMount, mountFuse, unmount } from '@lunfs/fuse';
import { MemoryDevice } from '@lunfs/device';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cleanup, exec, must, tempDir } from '../../../test/support/temp.js';
import { until } from '../../../test/support/until.js';
import { MemoryFs } from './support/memory-fs.js';

const lacks = process.getuid?.() !== 0 ? 'mounting needs root' : !fs.existsSync('/dev/fuse') ? 'there is no /dev/fuse' : undefined;
const PROGRAM = fileURLToPath(new URL('./support/child-mount.mjs', import.meta.url));

class Served {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  #said = '';
  #heard: (() => void)[] = [];

  constructor(directory: string) {
    this.child = spawn(process.execPath, [PROGRAM, directory], { stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on('data', (text: Buffer) => {
        this.#said += text.toString();
        for (const wake of this.#heard.splice(0)) wake();
      });
    }
    this.ended = new Promise((resolve) => { this.child.once('exit', (code, signal) => resolve({ code, signal })); });
  }

  async says(text: string): Promise<void> {
    while (!this.#said.includes(text)) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no "${text}" in: ${this.#said}`)), 10_000);
        this.#heard.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  tell(command: string): void {
    this.child.stdin!.write(`${command}\n`);
  }
}

function isMounted(directory: string): boolean {
  return fs.readFileSync('/proc/self/mounts', 'utf8').includes(` ${directory} fuse.lunfs `);
}

describe.skipIf(lacks !== undefined)(`lives of a mount${lacks === undefined ? '' : ` (skipped: ${lacks})`}`, () => {
  let cleanup: Cleanup;
  let directory: string;
  let served: Served;

  beforeEach(async () => {
    cleanup = new Cleanup();
    directory = tempDir(cleanup, 'life');
    served = new Served(directory);
    cleanup.add(async () => {
      served.child.kill('SIGKILL');
      await served.ended;
      await until('the mount is gone', () => !isMounted(directory), undefined, { everyMs: 50 });
    });
    await served.says('mounted');
    expect(isMounted(directory)).toBe(true);
  });
  afterEach(() => cleanup.run());

  it('ends when someone unmounts it', async () => {
    expect(await must('ls', [directory])).toBe('file\nslow\n');
    await must('umount', [directory]);
    await served.says('ended');
    expect(await served.ended).toEqual({ code: 0, signal: null });
  });

  it('process.exit() does not hang and takes the mount along', async () => {
    served.tell('exit');
    expect(await served.ended).toEqual({ code: 3, signal: null });
    expect(isMounted(directory)).toBe(false);
  });

  it('an uncaught exception does not hang and takes the mount along', async () => {
    served.tell('throw');
    expect((await served.ended).code).toBe(1);
    await served.says('on purpose');
    expect(isMounted(directory)).toBe(false);
  });

  it('SIGKILL leaves no dead mount', async () => {
    served.child.kill('SIGKILL');
    expect((await served.ended).signal).toBe('SIGKILL');
    await until('the guard has detached the mount', () => !isMounted(directory), undefined, { everyMs: 50 });
    expect(fs.readdirSync(directory)).toEqual([]);
  });

  it('close() unmounts a quiet mount and waits for the end', async () => {
    served.tell('close');
    await served.says('closed');
    expect(await served.ended).toEqual({ code: 0, signal: null });
  });

  it('close() ends a mount by force while a request of it is not answered', async () => {
    const reader = exec('cat', [path.join(directory, 'slow')]);
    await served.says('reading slow');
    served.tell('close');
    const { status, stderr } = await reader;
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/abort|not connected|Input\/output/i);
    await until('the mount is gone', () => !isMounted(directory), undefined, { everyMs: 50 });
    served.tell('exit'); // the handler itself still waits for ever
    expect(await served.ended).toEqual({ code: 3, signal: null });
  });

  it('exits while requests run', async () => {
    const readers = Array.from({ length: 4 }, () => exec('dd', [`if=${path.join(directory, 'file')}`, 'of=/dev/null', 'bs=64k', 'iflag=direct']));
    const stuck = exec('cat', [path.join(directory, 'slow')]);
    await served.says('reading slow');
    served.tell('exit');
    expect((await served.ended).code).toBe(3);
    for (const reader of [...readers, stuck]) expect(typeof (await reader).status).toBe('number');
    expect(isMounted(directory)).toBe(false);
  });

  it('an aborted connection ends its own session and no other', async () => {
    const other = tempDir(cleanup, 'other');
    const mount = await mountFuse(new MemoryFs(new MemoryDevice({ size: 1 << 20, logicalBlockSize: 4096 })), { directory: other, source: 'other' });
    await must('umount', ['-f', '-l', directory]);
    await served.says('ended');
    expect(await must('stat', ['-c', '%F', other])).toBe('directory\n');
    await mount.close();
  });
});

describe.skipIf(lacks !== undefined)(`mounting${lacks === undefined ? '' : ` (skipped: ${lacks})`}`, () => {
  const cleanup = new Cleanup();
  const handler = () => new MemoryFs(new MemoryDevice({ size: 1 << 20, logicalBlockSize: 4096 }));
  afterEach(() => cleanup.run());

  it('takes the place of a dead mount, and says what is wrong with a mount point', async () => {
    const directory = tempDir(cleanup, 'stale');
    // A FUSE connection without a server: the descriptor is closed at once.
    const fd = fs.openSync('/dev/fuse', 'r+');
    const child = spawn('mount', ['-i', '-n', '-t', 'fuse.lunfs', '-o', 'fd=3,rootmode=40000,user_id=0,group_id=0', 'dead', directory], { stdio: ['ignore', 'inherit', 'inherit', fd] });
    await new Promise((resolve) => child.once('exit', resolve));
    fs.closeSync(fd);
    expect(isStaleMount(directory)).toBe(true);
    const mount = await mountFuse(handler(), { directory, source: 'alive' });
    expect(await must('stat', ['-f', '-c', '%T', directory])).toMatch(/fuse/);
    await mount.close();
    expect(isMounted(directory)).toBe(false);
    const file = path.join(directory, 'file');
    fs.writeFileSync(file, '');
    await expect(mountFuse(handler(), { directory: file, source: 'x' })).rejects.toMatchObject({ code: 'FUSE_MOUNTPOINT', errno: 'ENOTDIR' });
    await expect(mountFuse(handler(), { directory: `${file}/none`, source: 'x' })).rejects.toMatchObject({ code: 'FUSE_MOUNTPOINT' });
    await expect(mountFuse(handler(), { directory, source: 'x', options: ['nonsense=1'] })).rejects.toMatchObject({ code: 'FUSE_MOUNT' });
    await expect(unmount(directory)).rejects.toMatchObject({ code: 'FUSE_UMOUNT' });
  });

  it('mounts read-only, shows source and type, refuses a clean umount of a busy mount by name', async () => {
    const directory = tempDir(cleanup, 'ro');
    const mount = await mountFuse(handler(), { directory, source: '/dev/mapper/lun 0', readOnly: true });
    expect(fs.readFileSync('/proc/self/mounts', 'utf8')).toContain(`/dev/mapper/lun\\0400 ${directory} fuse.lunfs ro,`);
    expect((await exec('touch', [path.join(directory, 'x')])).stderr).toMatch(/Read-only/);
    const inside = await fs.promises.open(directory, 'r');
    cleanup.add(() => inside.close());
    await expect(unmount(directory)).rejects.toMatchObject({ code: 'FUSE_BUSY', errno: 'EBUSY' });
    await mount.close(100);
    expect(isMounted(directory)).toBe(false);
  });
});
