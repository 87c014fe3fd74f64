/** Extended attributes of a test volume against a Map. */
import type { MemoryDevice } from '@lunfs/device';
import { expect } from 'vitest';
import { RawReader, listXattrs, xattrValue } from '../../src/inspect/index.js';
import { fullXattrName } from '../../src/xattr/index.js';
import { type Names, bytes } from '../volume/support.js';

/** Values by full name. */
export type Model = Map<string, Buffer>;

export function randomValue(random: () => number, length: number): Buffer {
  const value = Buffer.alloc(length);
  for (let i = 0; i < length; i += 64) value.writeUInt8(Math.floor(random() * 256), i);
  return value;
}

/** A length from one of the ranges that matter: empty, beside the name, around the border to outside, clusters, the longest. */
export function lengthOf(random: () => number): number {
  const pick = random();
  const among = (from: number, to: number): number => from + Math.floor(random() * (to - from + 1));
  if (pick < 0.1) return 0;
  if (pick < 0.55) return among(1, 60);
  if (pick < 0.75) return among(76, 84);
  if (pick < 0.95) return among(100, 9000);
  return among(60_000, 65_536);
}

/** What the engine says the inode has is what the model says. */
export async function expectModel(fs: Names, ino: number, model: Model): Promise<void> {
  const names = (await fs.ns.listXattr(ino)).map((name) => Buffer.from(name).toString());
  expect(names.sort()).toEqual([...model.keys()].sort());
  for (const [name, value] of model) expect(Buffer.from(await fs.ns.getXattr(ino, bytes(name))).equals(value), name).toBe(true);
}

/** The same without an engine, from the device. */
export async function expectOnDisk(device: MemoryDevice, ino: number, model: Model): Promise<void> {
  const reader = await RawReader.open(device);
  const found = new Map<string, Buffer>();
  for (const one of await listXattrs(reader, await reader.inode(ino))) found.set(Buffer.from(fullXattrName(one.item)).toString(), Buffer.from(await xattrValue(reader, one)));
  expect([...found.keys()].sort()).toEqual([...model.keys()].sort());
  for (const [name, value] of model) expect(found.get(name)!.equals(value), name).toBe(true);
}
