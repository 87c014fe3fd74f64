/** The lines we print are run as they are: by QEMU, by a shell, by an XML parser. */
import * as fsp from 'node:fs/promises';
import path from 'node:path';
import { diskLines } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, exec, must } from '../../../../test/support/temp.js';
import { type TestImage, testImage } from '../support/image.js';

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'qemu'))('lines to use a disk', () => {
  const cleanup = new Cleanup();
  let image: TestImage;
  beforeAll(async () => {
    image = await testImage(cleanup);
    await image.start({ mount: { directory: image.mountPoint } });
    const control = await image.connect();
    for (const name of ['disk.raw', "it's a <disk>.raw"]) await control.createDisk(`/${name}`, { size: 64 << 20, allocation: 'thin' });
    control.close();
  });
  afterAll(() => cleanup.run());

  /** What QEMU says of its block devices when started with these arguments, the guest not running. */
  async function infoBlock(args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await exec('qemu-system-x86_64', ['-accel', 'tcg', '-display', 'none', '-nodefaults', '-S', '-monitor', 'stdio', ...args], { input: 'info block -v\nquit\n' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    return stdout;
  }

  for (const name of ['disk.raw', "it's a <disk>.raw"]) {
    it(`NBD: ${name}`, async () => {
      const control = await image.connect();
      const exported = await control.addExport({ path: `/${name}`, socket: path.join(image.directory, `${name}.sock`) });
      const lines = diskLines({ kind: 'nbd', export: exported }, { id: 'vm1.root' });
      const info = await infoBlock(lines.qemu);
      expect(info).toContain('vm1.root');
      expect(info).toMatch(/Cache mode:\s+writeback, direct/);
      expect(lines.qemuCommand).toContain('"reconnect-delay":');
      expect(lines.qemuCommand).toContain('werror=stop,rerror=stop');
      // The command as a shell reads it gives the same arguments.
      expect((await must('sh', ['-c', `printf '%s\\n' ${lines.qemuCommand}`])).trimEnd().split('\n')).toEqual(lines.qemu);
      expect(await must('sh', ['-c', lines.qemuImg[0]])).toContain('virtual size: 64 MiB');
      expect(JSON.parse(await must('sh', ['-c', lines.qemuImg[1]]))).toMatchObject([{ start: 0, length: 64 << 20, data: false, zero: true }]);
      expect(await parsed(lines.libvirt)).toContain(`source protocol=nbd name=${name}`);
      await control.removeExport(name);
      control.close();
    });

    it(`by path: ${name}`, async () => {
      const file = path.join(image.mountPoint, name);
      const lines = diskLines({ kind: 'file', path: file });
      const info = await infoBlock(lines.qemu);
      expect(info).toContain('disk0');
      expect(info).toMatch(/Cache mode:\s+writeback, direct/);
      expect(await must('sh', ['-c', lines.qemuImg[0]])).toContain('virtual size: 64 MiB');
      expect(await parsed(lines.libvirt)).toContain(`source file=${file}`);
      expect((await fsp.stat(file)).size).toBe(64 << 20);
    });
  }

  it('a name that QEMU cannot have is refused', () => {
    expect(() => diskLines({ kind: 'file', path: '/x' }, { id: '1,drive=x' })).toThrow(expect.objectContaining({ code: 'QEMU_ID' }) as Error);
  });

  /** Every element of the XML with its attributes, as a parser sees them. */
  function parsed(xml: string): Promise<string> {
    return must('python3', ['-c', 'import sys, xml.dom.minidom as m\nfor e in m.parseString(sys.stdin.read()).getElementsByTagName("*"): print(e.tagName, *(k + "=" + v for k, v in e.attributes.items()))'], { input: xml });
  }
});
