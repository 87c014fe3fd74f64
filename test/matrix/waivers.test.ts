/** Of wrong free-space marks the matrix forgives those that Linux left, and none of ours. */
import fs from 'node:fs';
import path from 'node:path';
import { openDevice } from '@lunfs/device';
import { type Finding, RawReader, Volume, XattrHeader, checkVolume, xattrStorages } from '@lunfs/ocfs2';
import { afterAll, describe, expect, test } from 'vitest';
import { EngineTree } from '../support/engine-tree.js';
import { fsck, lacks, mkfs } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';
import { Waivers } from '../support/waivers.js';

const BLOCK_SIZE = 4096;
const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const image = path.join(tempDir(cleanup, 'waivers'), 'volume.img');

/** Attributes numbered from `from`, below `to`, with values of `length` bytes. */
async function setAttributes(from: number, to: number, length: number): Promise<void> {
  const device = await openDevice(image, { write: true });
  try {
    const volume = await Volume.mount(device, {});
    const file = await new EngineTree(volume).resolve('file');
    for (let i = from; i < to; i++) await volume.names.setXattr(file, Buffer.from(`user.attribute ${i}`), Buffer.alloc(length, 'v'));
    await volume.unmount();
  } finally {
    await device.close();
  }
}

async function found(): Promise<readonly Finding[]> {
  const device = await openDevice(image);
  try {
    return (await checkVolume(device)).findings;
  } finally {
    await device.close();
  }
}

/** Blocks of the file's buckets, and what their headers say of where free space begins. */
async function marks(): Promise<Map<number, number>> {
  const device = await openDevice(image);
  try {
    const reader = await RawReader.open(device);
    const root = await reader.entries(await reader.inode(reader.geo.rootBlkno));
    const file = root.find(({ name }) => Buffer.from(name).toString() === 'file')!.inode;
    const all = new Map<number, number>();
    for await (const { kind, block } of xattrStorages(reader, await reader.inode(file))) if (kind === 'bucket') all.set(block.blkno, XattrHeader.at(block).freeStart);
    return all;
  } finally {
    await device.close();
  }
}

/** Leaves a mark where it was before the lowest pair of the bucket, of `by` bytes, was removed. */
async function keepMark(blkno: number, by: number): Promise<void> {
  const mark = Buffer.alloc(2);
  mark.writeUInt16LE((await marks()).get(blkno)! - by);
  const file = fs.openSync(image, 'r+');
  fs.writeSync(file, mark, 0, 2, blkno * BLOCK_SIZE + XattrHeader.fields.freeStart.off);
  fs.closeSync(file);
}

describe.skipIf(lacks('ocfs2-tools'))('a wrong mark in a bucket of attributes', () => {
  test('is waived as Linux left it, wherever it moves, and caught once we wrote it', { timeout: 120_000 }, async () => {
    await mkfs(image, { size: 100 << 20, blockSize: BLOCK_SIZE, clusterSize: 8192, slots: 1 });
    const device = await openDevice(image, { write: true });
    const volume = await Volume.mount(device, {});
    await new EngineTree(volume).create('file');
    await volume.unmount();
    await device.close();
    await setAttributes(0, 200, 30);
    expect(await found()).toEqual([]);

    const buckets = [...(await marks()).keys()];
    expect(buckets.length).toBeGreaterThan(3);
    const [linux, ours] = [buckets[1], buckets[2]];
    await keepMark(linux, 48);
    const waivers = new Waivers(image, BLOCK_SIZE);
    const left = await found();
    expect(left.map(({ code, block }) => ({ code, block }))).toEqual([{ code: 'XATTR_FREE_START_INVALID', block: linux }]);
    expect(waivers.waives(left[0])).toBe(false);
    waivers.learn(left);
    expect(left.every((finding) => waivers.waives(finding))).toBe(true);
    const told = await fsck(image);
    expect(told.findings.map(({ code }) => code)).toEqual(['XATTR_FREE_START_INVALID']);
    expect((await fsck(image, (finding) => waivers.waivesFsck(finding))).findings).toEqual([]);

    // A bucket of ours beside it.
    await keepMark(ours, 48);
    expect((await found()).filter((finding) => !waivers.waives(finding)).map(({ block }) => block)).toEqual([ours]);
    expect((await fsck(image, (finding) => waivers.waivesFsck(finding))).findings.map(({ text }) => text)).toEqual([expect.stringContaining(`bucket #${ours} `)]);
    await keepMark(ours, -48);

    // Every bucket is written by us or moved as it is; whatever is still wrong is as it was.
    await setAttributes(200, 300, 40);
    const later = await found();
    expect(later.filter((finding) => !waivers.waives(finding))).toEqual([]);
    await setAttributes(0, 300, 20);
    expect(await found()).toEqual([]);

    // What was Linux's, written by us with a wrong mark.
    await keepMark(linux, 48);
    expect((await found()).filter((finding) => !waivers.waives(finding)).map(({ block }) => block)).toEqual([linux]);
  });
});
