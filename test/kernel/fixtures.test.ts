/** Every dinode of the volumes that Linux filled, as debugfs.ocfs2 prints it. */
import { openDevice } from '@lunfs/device';
import { expect, test } from 'vitest';
import { FIXTURES, unpackFixture } from '../support/fixtures.js';
import { Cleanup, tempDir } from '../support/temp.js';
import { compareWithDebugfs } from './debugfs-stat.js';

test.each(FIXTURES)('debugfs.ocfs2 agrees on every dinode of %s', async (name) => {
  const cleanup = new Cleanup();
  try {
    const image = await unpackFixture(name, tempDir(cleanup, 'kernel'));
    const device = await openDevice(image);
    cleanup.add(() => device.close());
    expect(await compareWithDebugfs(cleanup, device, image)).toBeGreaterThan(250);
  } finally {
    await cleanup.run();
  }
});
