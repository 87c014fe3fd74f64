/** Threads beside the first find the same, in the same order. (From the built package, as threads are.) */
import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openDevice } from '@lunfs/device';
import { type CheckReport, checkVolume } from '@lunfs/ocfs2/check';
import { unpackFixture } from '../../../../test/support/fixtures.js';
import { Cleanup, randomFrom, seed, tempDir } from '../../../../test/support/temp.js';
import { Block, DYN, Dinode, ExtentList, FL, ID2, MODE, S_IFMT, stampCheck } from '../../src/format/index.js';

const BLOCK = 4096;

async function withImage(fixture: '4k4k' | 'plain' | 'crash', work: (file: string) => Promise<void>): Promise<void> {
  const cleanup = new Cleanup();
  try {
    await work(await unpackFixture(fixture, tempDir(cleanup)));
  } finally {
    await cleanup.run();
  }
}

async function check(file: string, helpers: number): Promise<CheckReport> {
  const device = await openDevice(file);
  try {
    return await checkVolume(device, { helpers });
  } finally {
    await device.close();
  }
}

/** Blocks of the image that hold inodes, but system files. */
function inodesOf(image: Buffer): Block[] {
  const found: Block[] = [];
  for (let at = 3 * BLOCK; at + BLOCK <= image.length; at += BLOCK) {
    const block = new Block('image', at / BLOCK, image.subarray(at, at + BLOCK));
    if (image.toString('latin1', at, at + 7) === 'INODE01' && Dinode.at(block).blkno === block.blkno && !(Dinode.at(block).flags & FL.SYSTEM)) found.push(block);
  }
  return found;
}

/** Change an image in memory and put it in place. */
function change(file: string, damage: (inodes: Block[]) => void): void {
  const image = fs.readFileSync(file);
  const inodes = inodesOf(image);
  damage(inodes);
  for (const { bytes } of inodes) stampCheck(bytes, 0x80);
  fs.writeFileSync(file, image);
}

describe('a verification by several threads says what one says', () => {
  test.each(['4k4k', 'plain', 'crash'] as const)('of the fixture %s', (fixture) => withImage(fixture, async (file) => {
    const alone = await check(file, 0);
    expect(alone.counts.inodes).toBeGreaterThan(50);
    expect(await check(file, 2)).toEqual(alone);
  }), 60_000);

  test('of inodes with wrong fields', () => withImage('4k4k', async (file) => {
    const random = randomFrom(seed('check by threads'));
    const below = (n: number) => Math.floor(random() * n);
    change(file, (inodes) => {
      for (let i = 0; i < 40; i++) inodes[below(inodes.length)].bytes[0x20 + below(0xe0)] ^= 1 << below(8);
    });
    const alone = await check(file, 0);
    expect(alone.clean).toBe(false);
    expect(await check(file, 3)).toEqual(alone);
  }), 60_000);

  test('of clusters that two files claim: which is named does not depend on who was first', () => withImage('4k4k', async (file) => {
    change(file, (inodes) => {
      const files = inodes.filter((inode) => {
        const { mode, dynFeatures } = Dinode.at(inode), list = new ExtentList(inode, ID2);
        return (mode & S_IFMT) === MODE.REG && !(dynFeatures & (DYN.INLINE_DATA | DYN.HAS_REFCOUNT)) && list.depth === 0 && list.nextFree > 0;
      });
      for (let i = 1; i < Math.min(files.length, 9); i += 2) new ExtentList(files[i], ID2).setBlkno(0, new ExtentList(files[i - 1], ID2).blkno(0));
    });
    const alone = await check(file, 0);
    expect(alone.findings.map(({ code }) => code)).toContain('DUP_CLUSTERS_CLONE');
    for (let round = 0; round < 3; round++) expect(await check(file, 2)).toEqual(alone);
  }), 60_000);
});
