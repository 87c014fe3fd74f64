/** One file through the mount and through NBD at the same time: whoever reads sees what the other has written, cached pages and mappings or not. */
import * as fsp from 'node:fs/promises';
import path from 'node:path';
import { NbdClient } from '@lunfs/nbd';
import type { ExportFacts, StartedProcess, VolumeProcess } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must, randomFrom, seed } from '../../../../test/support/temp.js';
import { type TestImage, ends, logOf, testImage } from '../support/image.js';

const SIZE = 64 << 20;

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'fio', 'qemu'))('a file through mount and NBD at once', () => {
  const cleanup = new Cleanup();
  let image: TestImage;
  let one: StartedProcess;
  let control: VolumeProcess;
  const at = (name: string) => path.join(image.mountPoint, name);

  beforeAll(async () => {
    image = await testImage(cleanup, { size: 2 * 2 ** 30 });
    one = await image.start({ mount: { directory: image.mountPoint } });
    control = await image.connect();
  });
  afterAll(async () => {
    try {
      await control.stop();
      expect(await ends(one)).toEqual({ code: 0, signal: null });
      expect(logOf(one)).toBe('');
      await image.check();
    } finally {
      await cleanup.run();
    }
  });

  async function connected(facts: ExportFacts): Promise<NbdClient> {
    const client = await NbdClient.connect({ path: facts.socket! });
    await client.go(facts.name);
    return client;
  }

  async function exported(name: string, allocation: 'thin' | 'thick-zeroed'): Promise<{ facts: ExportFacts; client: NbdClient }> {
    await control.createDisk(`/${name}`, { size: SIZE, allocation });
    const facts = await control.addExport({ path: `/${name}` });
    const client = await connected(facts);
    return { facts, client };
  }

  for (const allocation of ['thin', 'thick-zeroed'] as const) {
    it(`${allocation}: pages cached before the export see writes through NBD; attributes too`, async () => {
      const name = `cached-${allocation}.raw`;
      await control.createDisk(`/${name}`, { size: SIZE, allocation });
      const handle = await fsp.open(at(name), 'r');
      const buffer = Buffer.alloc(1 << 20);
      for (let offset = 0; offset < 8 << 20; offset += buffer.length) await handle.read(buffer, 0, buffer.length, offset); // fills the page cache
      expect(buffer.every((byte) => byte === 0)).toBe(true);
      const before = await handle.stat();
      const facts = await control.addExport({ path: `/${name}` });
      const client = await connected(facts);
      for (let round = 1; round <= 50; round++) {
        const offset = (round * 37 % 120) * 65536;
        await client.write(offset, Buffer.alloc(65536, round));
        await handle.read(buffer, 0, 65536, offset);
        expect(buffer[0]).toBe(round);
        expect(buffer[65535]).toBe(round);
      }
      await client.flush();
      expect((await handle.stat()).mtimeMs).toBeGreaterThan(before.mtimeMs);
      await handle.close();
      await client.close();
      await control.removeExport(name);
    });
  }

  it('writes through NBD at full speed while nobody has the file open are seen by the next open, during the export and after it', async () => {
    const { client } = await exported('fast.raw', 'thick-zeroed');
    for (let round = 1; round <= 20; round++) {
      // Workers write in place from the second request on: the mount is not told.
      for (let i = 0; i < 4; i++) await client.write(i * 65536, Buffer.alloc(65536, round));
      const back = await fsp.open(at('fast.raw'), 'r');
      const buffer = Buffer.alloc(4 * 65536);
      await back.read(buffer, 0, buffer.length, 0);
      await back.close();
      expect(buffer.every((byte) => byte === round)).toBe(true);
    }
    await client.write(0, Buffer.alloc(65536, 99));
    await client.close();
    await control.removeExport('fast.raw');
    expect((await fsp.readFile(at('fast.raw')))[4000]).toBe(99);
  });

  it('a clone is written through NBD while its source is read through the mount; cp shares what it copies within the mount', async () => {
    const { client: origin } = await exported('origin.raw', 'thin');
    const content = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i >> 8) + 1));
    for (let i = 0; i < 4; i++) await origin.write(i << 20, content); // workers map and write in place
    await control.cloneDisk('/origin.raw', '/clone.raw');
    const facts = await control.addExport({ path: '/clone.raw' });
    const client = await connected(facts);
    expect(await control.diskInfo('/clone.raw')).toMatchObject({ size: SIZE, shared: 4 << 20, written: 4 << 20 });
    const back = await fsp.open(at('origin.raw'), 'r');
    const buffer = Buffer.alloc(1 << 20), model = Buffer.from(content);
    for (let round = 0; round < 30; round++) {
      const offset = (round * 7919 * 512) % ((1 << 20) - 4096);
      const data = Buffer.alloc(512 * (1 + (round % 8)), 200 + round);
      data.copy(model, offset);
      await client.write(offset, data);
      if (round % 10 === 5) await origin.write(3 << 20, Buffer.alloc(4096, round));
      await back.read(buffer, 0, buffer.length, 0);
      expect(buffer.equals(content), `origin after round ${round}`).toBe(true);
      expect((await client.read(0, 1 << 20)).equals(model), `clone after round ${round}`).toBe(true);
    }
    expect((await client.read(3 << 20, 4096)).equals(content.subarray(0, 4096))).toBe(true);
    await back.close();
    await must('cp', ['--sparse=never', '--reflink=auto', at('origin.raw'), at('copied.raw')]);
    expect((await fsp.readFile(at('copied.raw'))).equals(await fsp.readFile(at('origin.raw')))).toBe(true);
    expect((await control.diskInfo('/copied.raw')).shared).toBeGreaterThan(3 << 20);
    for (const [one, name] of [[client, 'clone.raw'], [origin, 'origin.raw']] as const) {
      await one.close();
      await control.removeExport(name);
    }
  });

  it('random writes by both sides, read by both sides, against a model', async () => {
    const random = randomFrom(seed('coherence'));
    const { client } = await exported('both.raw', 'thin');
    const model = Buffer.alloc(8 << 20);
    let handle = await fsp.open(at('both.raw'), 'r+');
    for (let i = 0; i < 400; i++) {
      const length = 1 + Math.floor(random() * 60_000);
      const offset = Math.floor(random() * (model.length - length));
      const aligned = random() < 0.5;
      const from = aligned ? offset - (offset % 4096) : offset, size = aligned ? Math.ceil(length / 4096) * 4096 : length;
      if (from + size > model.length) continue;
      const data = Buffer.alloc(size, i & 0xff);
      switch (Math.floor(random() * 5)) {
        case 0: await client.write(from, data); data.copy(model, from); break;
        case 1: await handle.write(data, 0, size, from); data.copy(model, from); break;
        case 2: expect((await client.read(from, size)).equals(model.subarray(from, from + size)), `NBD read ${size} at ${from}, step ${i}`).toBe(true); break;
        case 3: {
          const back = Buffer.alloc(size);
          await handle.read(back, 0, size, from);
          expect(back.equals(model.subarray(from, from + size)), `mount read ${size} at ${from}, step ${i}`).toBe(true);
          break;
        }
        default:
          if (random() < 0.5) {
            await client.trim(from, size);
            model.fill(0, from, from + size);
          } else {
            await handle.close();
            handle = await fsp.open(at('both.raw'), 'r+');
          }
      }
    }
    await handle.close();
    await client.close();
    await control.removeExport('both.raw');
    expect((await fsp.readFile(at('both.raw'))).subarray(0, model.length).equals(model)).toBe(true);
  });

  it('fio writes through NBD what fio verifies through the mount, and the other way round, while the other side reads', async () => {
    const { facts, client } = await exported('fio.raw', 'thin');
    const job = (more: string[]) => ['--name=v', '--size=32m', '--rw=randwrite', '--bsrange=4k-128k', '--bs_unaligned=0', '--iodepth=8', '--verify=crc32c', '--randseed=7', '--output-format=terse', ...more];
    const nbd = ['--ioengine=nbd', `--uri=${facts.uri}`];
    const mount = ['--ioengine=libaio', '--direct=1', `--filename=${at('fio.raw')}`];
    const reader = await fsp.open(at('fio.raw'), 'r');
    let over = false;
    const reading = (async () => {
      for (const buffer = Buffer.alloc(1 << 20); !over; ) for (let offset = 0; offset < 32 << 20 && !over; offset += buffer.length) await reader.read(buffer, 0, buffer.length, offset);
    })();
    await must('fio', job([...nbd, '--do_verify=0']));
    await must('fio', job([...mount, '--verify_only']));
    await must('fio', job([...mount, '--do_verify=0', '--verify_pattern=0x5a', '--verify=pattern']));
    await must('fio', job([...nbd, '--verify_only', '--verify_pattern=0x5a', '--verify=pattern']));
    over = true;
    await reading;
    await reader.close();
    await client.close();
    await control.removeExport('fio.raw');
  });
});
