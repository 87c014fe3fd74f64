/** A volume that takes no more changes (one bad directory) does not stop its guests: what lies in written extents goes on being read and written. */
import { CorruptionError } from '@lunfs/device';
import { HostVolume } from '@lunfs/host';
import { NbdClient } from '@lunfs/nbd';
import { describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup } from '../../../../test/support/temp.js';
import { testImage } from '../support/image.js';

describe.skipIf(lacks('ocfs2-tools'))('a volume that became read-only', () => {
  it('serves exports in place, refuses what would change metadata, and leaves its journal to be recovered', async () => {
    const cleanup = new Cleanup();
    try {
      const image = await testImage(cleanup);
      const host = await HostVolume.open({ device: image.image });
      await host.createDisk('/thick.raw', { size: 16 << 20, allocation: 'thick-zeroed' });
      await host.createDisk('/thin.raw', { size: 16 << 20, allocation: 'thin' });
      const clients = [];
      for (const path of ['/thick.raw', '/thin.raw']) {
        const { socket, name } = await host.addExport({ path });
        const client = await NbdClient.connect({ path: socket! });
        await client.go(name);
        clients.push(client);
      }
      const [thick, thin] = clients;
      await thick.write(0, Buffer.alloc(65536, 1));
      await thick.write(4097, Buffer.alloc(100, 2)); // unaligned: the main thread's
      host.volume.ctx.engine.refuseChanges(new CorruptionError('TEST', 'a directory block is damaged'));
      for (let round = 0; round < 3; round++) {
        await thick.write(65536 * round, Buffer.alloc(65536, 3 + round));
        await thick.write(65536 * round + 5, Buffer.alloc(3000, 13 + round));
        await thick.write(8 << 20, Buffer.alloc(4096, round), { fua: true });
        await thick.flush();
        await new Promise((resolve) => setTimeout(resolve, 600)); // times are due in between
      }
      for (let round = 0; round < 3; round++) {
        const back = await thick.read(65536 * round, 65536);
        expect([back[0], back[5], back[3004], back[3005]]).toEqual([3 + round, 13 + round, 13 + round, 3 + round]);
      }
      await expect(thin.write(0, Buffer.alloc(4096, 1))).rejects.toThrow();
      expect((await thin.read(0, 4096)).every((byte) => byte === 0)).toBe(true);
      await expect(host.createDisk('/more.raw', { size: 4096, allocation: 'thin' })).rejects.toMatchObject({ code: 'TEST' });
      for (const client of clients) await client.close();
      for (const name of ['thick.raw', 'thin.raw']) await host.removeExport(name);
      await host.device.close(); // as a process that dies: the volume cannot be unmounted cleanly
      const again = await HostVolume.open({ device: image.image });
      expect(again.volume.recovery.slots).toEqual([0]);
      await again.close();
      await image.check();
    } finally {
      await cleanup.run();
    }
  });
});
