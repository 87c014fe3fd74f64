/**
 * Issue line 6: a client writes through NBD and reconnects by itself while the volume process is killed with SIGKILL and started again, ten
 * times. Every acknowledged write must be there. The client is fio through QEMU's NBD client (qemu-nbd re-exporting with
 * reconnect-delay), which is what a guest's QEMU does.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { HostVolume } from '@lunfs/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, exec, must, randomFrom, seed } from '../../../../test/support/temp.js';
import { type TestImage, ends, testImage } from '../support/image.js';

const KILLS = 10;
const SIZE = 256 << 20;

describe.skipIf(lacks('ocfs2-tools', 'fio', 'qemu'))('fio verify through a volume process that is killed ten times', () => {
  let cleanup: Cleanup;
  let image: TestImage;
  beforeEach(async () => {
    cleanup = new Cleanup();
    image = await testImage(cleanup);
  });
  afterEach(() => cleanup.run());

  for (const allocation of ['thin', 'thick-unwritten'] as const) {
    it(`${allocation}: every acknowledged write is there`, async () => {
      const random = randomFrom(seed(`restart ${allocation}`));
      const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
      const host = await HostVolume.open({ device: image.image });
      await host.createDisk('/disk.raw', { size: SIZE, allocation });
      await host.close();
      const exports = [{ path: '/disk.raw' }];
      let process_ = await image.start({ exports });
      const [{ socket }] = process_.facts.exports;
      const proxy = path.join(image.directory, 'proxy');
      const qemu = spawn('qemu-nbd', ['--persistent', '--cache=none', '-k', proxy, '--image-opts', `driver=nbd,server.type=unix,server.path=${socket},export=disk.raw,reconnect-delay=60`], { stdio: 'inherit' });
      const qemuOver = new Promise((resolve) => { qemu.once('close', resolve); });
      cleanup.add(async () => {
        qemu.kill('SIGKILL');
        await qemuOver;
      });
      while (!fs.existsSync(proxy)) await pause(20);
      const job = ['--name=v', '--ioengine=nbd', `--uri=nbd+unix:///?socket=${proxy}`, `--size=${SIZE >> 20}m`, '--rw=randwrite', '--bs=4k-64k', '--iodepth=8', '--verify=crc32c', '--randseed=11', '--fsync=200'];
      let writing = true;
      // Slow enough to be hit ten times; QEMU tries again after one second.
      const writer = exec('fio', [...job, '--do_verify=0', '--rate=12m'], { timeoutMs: 110_000 }).finally(() => { writing = false; });
      let killed = 0;
      for (; killed < KILLS && writing; killed++) {
        await pause(300 + random() * 900);
        process_.kill('SIGKILL');
        expect((await ends(process_)).signal).toBe('SIGKILL');
        process_ = await image.start({ exports });
        expect(process_.facts.exports[0].socket).toBe(socket);
      }
      const wrote = await writer;
      expect(wrote, wrote.stdout + wrote.stderr).toMatchObject({ status: 0 });
      expect(killed).toBe(KILLS);
      await must('fio', [...job, '--verify_only'], { timeoutMs: 60_000 });
      process_.kill('SIGTERM');
      expect(await ends(process_)).toEqual({ code: 0, signal: null });
      await image.check();
    }, 150_000);
  }
});
