/** The real name space over a real journal, while another node wants every lock back at once: slow, but everything gets done. */
import { describe, expect, test } from 'vitest';
import { DIR, FILE, Names, bytes } from '../volume/support.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';

describe.each([GEOMETRIES[1], GEOMETRIES[3]])('users of one hostile volume, $name', (spec) => {
  test.each([1, 2])('at the same time, seed %i', async (seed) => {
    const device = await makeVolume(spec);
    const names = await Names.open(device, { hostile: true, journal: true, seed });
    const { ns, ctx } = names;
    const root = ctx.geo.rootBlkno;
    const shared = (await names.create(root, 'shared', DIR)).blkno;
    await Promise.all([0, 1, 2].map(async (user) => {
      const own = (await names.create(root, `user${user}`, DIR)).blkno;
      for (let i = 0; i < 8; i++) {
        await names.create(own, `file${i}`, FILE);
        await names.create(shared, `${user}-${i}`, FILE);
        await ns.rename({ oldDir: own, oldName: bytes(`file${i}`), newDir: shared, newName: bytes(`moved${user}-${i}`) });
        if (i % 2 === 0) await ns.unlink(shared, bytes(`${user}-${i}`));
      }
    }));
    expect((await names.list(shared)).size).toBe(2 + 3 * 8 + 3 * 4);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });
});
