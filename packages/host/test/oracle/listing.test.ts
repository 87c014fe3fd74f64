/** Listings through the mount: attributes come with the names that the kernel does not know yet, and no name is looked up for having been listed. */
import { HostVolume } from '@lunfs/host';
import { afterAll, describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must } from '../../../../test/support/temp.js';
import { testImage } from '../support/image.js';

const NAMES = 100;

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('listings', { timeout: 180_000 }, () => {
  const cleanup = new Cleanup();
  afterAll(() => cleanup.run());

  it('of names that the kernel knows, knows in part and does not know', async () => {
    const image = await testImage(cleanup);
    const host = await HostVolume.open({ device: image.image });
    cleanup.add(() => host.close().catch(() => undefined));
    /** Mounts, runs the program, ends the mount; names that were looked up after the program said "listing", and how many listings had attributes. */
    async function traced(program: string): Promise<{ lookups: number; plus: number }> {
      const lines: string[] = [];
      const mount = await host.mount({ directory: image.mountPoint, trace: (line) => void lines.push(line) });
      await must('python3', ['-c', `
import os, sys
d = sys.argv[1] + '/d'
def listed():
    found = {e.name: e.stat().st_size for e in os.scandir(d)}
    assert found == {n: int(n.split('-')[1]) for n in names}, found
${program}`, image.mountPoint], { cwd: '/' });
      await mount.close();
      const from = lines.findIndex((line) => /\bREADDIR/.test(line));
      return { lookups: lines.slice(from).filter((line) => /\bLOOKUP\b/.test(line) && line.includes('n-')).length, plus: lines.filter((line) => /\bREADDIRPLUS\b/.test(line)).length };
    }
    const names = `names = ['n-%d' % i for i in range(${NAMES})]`;
    const made = await traced(`
${names}
os.mkdir(d)
for n in names:
    with open(d + '/' + n, 'wb') as f: f.write(b'x' * int(n.split('-')[1]))
listed()
`);
    expect(made.lookups).toBe(0);
    expect(made.plus).toBeGreaterThan(0);
    const unknown = await traced(`${names}\nlisted()`);
    expect(unknown.lookups).toBe(0);
    const part = await traced(`
${names}
for n in names[::3]: os.stat(d + '/' + n)
os.unlink(d + '/n-7'); names.remove('n-7')
listed()
with open(d + '/n-7', 'wb') as f: f.write(b'x' * 7)
names.append('n-7')
listed()
`);
    expect(part.lookups).toBe(1); // n-7, to be created
    await host.close();
    await image.check();
  });
});
