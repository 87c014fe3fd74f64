/**
 * Volumes for engine tests: made by mkfs.ocfs2, held in memory, handed to fsck.ocfs2 and debugfs.ocfs2 through sparse
 * files. Only data that is not zero moves, so volumes of many GiB are cheap.
 */
import fs from 'node:fs';
import path from 'node:path';
import { type BlockDevice, MemoryDevice } from '@lunfs/device';
import { checkVolume } from '../../src/check/index.js';
import { Cleanup, type Finished, exec, must, sparseFile, tempDir } from '../../../../test/support/temp.js';

const CHUNK = 1 << 20;

export interface VolumeSpec {
  /** Arguments of mkfs.ocfs2 besides the device, e.g. `['-b', '4096', '-C', '4096', '-N', '2']`. */
  readonly mkfsArgs: readonly string[];
  /** Bytes. */
  readonly size: number;
}

/** A geometry the engine tests run over, with the text for the test's name. */
export interface NamedVolume extends VolumeSpec {
  readonly name: string;
}

/** The geometries every engine test should pass on; the first is the quick one. */
export const GEOMETRIES: readonly NamedVolume[] = [
  { name: '4K/4K', size: 300 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '2', '-J', 'size=4M'] },
  { name: '4K/4K metaecc', size: 300 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '2', '-J', 'size=4M', '--fs-features=metaecc'] },
  { name: '4K/1M', size: 600 << 20, mkfsArgs: ['-b', '4096', '-C', '1M', '-N', '2', '-J', 'size=9M'] },
  { name: '1K/4K', size: 100 << 20, mkfsArgs: ['-b', '1024', '-C', '4096', '-N', '2', '-J', 'size=4M'] },
  { name: '512/4K', size: 60 << 20, mkfsArgs: ['-b', '512', '-C', '4096', '-N', '2', '-J', 'size=4M'] },
];

const made = new Map<string, Promise<MemoryDevice>>();

/** A fresh volume as mkfs.ocfs2 leaves it. The same specification is formatted once per test file and copied after that. */
export async function makeVolume({ mkfsArgs, size }: VolumeSpec): Promise<MemoryDevice> {
  const key = JSON.stringify([size, ...mkfsArgs]);
  let template = made.get(key);
  if (template === undefined) made.set(key, (template = format(mkfsArgs, size)));
  return (await template).clone();
}

async function format(mkfsArgs: readonly string[], size: number): Promise<MemoryDevice> {
  return withDir(async (dir) => {
    const file = sparseFile(path.join(dir, 'volume'), size);
    await must('mkfs.ocfs2', ['-q', '-F', ...mkfsArgs, file]);
    return loadSparse(file, size);
  });
}

/** Bytes of a sparse file in a memory device; holes are found by qemu-img, not read. */
export async function loadSparse(file: string, size = fs.statSync(file).size): Promise<MemoryDevice> {
  const device = new MemoryDevice({ size, name: 'test-volume' });
  const map = JSON.parse(await must('qemu-img', ['map', '--output=json', '-f', 'raw', file])) as { start: number; length: number; data: boolean }[];
  const fd = fs.openSync(file, 'r');
  try {
    for (const { start, length, data } of map) {
      for (let at = start; data && at < start + length; at += CHUNK) {
        const bytes = new Uint8Array(Math.min(CHUNK, start + length - at));
        fs.readSync(fd, bytes, 0, bytes.length, at);
        if (!isZero(bytes)) device.writeSync(at, bytes);
      }
    }
  } finally {
    fs.closeSync(fd);
  }
  return device;
}

/** Write a memory device into a sparse file. */
export function writeOut(device: MemoryDevice, file: string): string {
  sparseFile(file, device.size);
  const fd = fs.openSync(file, 'r+');
  try {
    for (const { offset, bytes } of device.contents()) {
      const length = Math.min(bytes.length, device.size - offset);
      if (!isZero(bytes)) fs.writeSync(fd, bytes, 0, length, offset);
    }
  } finally {
    fs.closeSync(fd);
  }
  return file;
}

export function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROES.subarray(0, bytes.length)) === 0;
}
const ZEROES = new Uint8Array(CHUNK);

/** Run `work` with a directory that vanishes after it. */
export async function withDir<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const cleanup = new Cleanup();
  try {
    return await work(tempDir(cleanup, 'ocfs2'));
  } finally {
    await cleanup.run();
  }
}

export interface FsckResult extends Finished {
  /** Codes of all `[CODE]` lines, in order. */
  readonly codes: readonly string[];
}

/** What fsck.ocfs2 1.8.7 reports of healthy volumes: the system directory is never indexed, even when it is not inline (ondisk-format.md 3). */
const FALSE_POSITIVES: readonly string[] = ['DX_TREE_MISSING'];

/** `fsck.ocfs2 -fn`: checks everything, changes nothing. */
export async function fsck(device: MemoryDevice): Promise<FsckResult> {
  return withDir(async (dir) => {
    // Without a limit it takes, locks and zeroes a cache as large as the volume, which takes longer than all the rest.
    const result = await exec('prlimit', [`--as=${128 << 20}`, 'fsck.ocfs2', '-fn', writeOut(device, path.join(dir, 'volume'))]);
    const text = result.stdout + result.stderr;
    return { ...result, codes: [...text.matchAll(/^\[([A-Z0-9_]+)\]/gm)].map((m) => m[1]) };
  });
}

/** Throws with fsck's own words unless `fsck.ocfs2 -fn` went through all passes and found nothing (codes in `ignore` apart). */
export async function expectFsckClean(device: MemoryDevice, ignore: readonly string[] = []): Promise<void> {
  const found = (await checkVolume(device)).findings.filter((f) => f.severity !== 'recovery' && !ignore.includes(f.code));
  if (found.length > 0) throw new Error(`our verifier: ${found.slice(0, 40).map((f) => `[${f.code}] ${f.message}`).join('\n')}`);
  const { codes, stdout, stderr, status } = await fsck(device);
  const left = codes.filter((code) => !ignore.includes(code) && !FALSE_POSITIVES.includes(code));
  if (left.length > 0 || !/Pass 4b|All passes succeeded/.test(stdout) || (codes.length === 0 && status !== 0)) {
    const said = stdout.split('\n').filter((line) => left.some((code) => line.startsWith(`[${code}]`)));
    throw new Error(`fsck.ocfs2 -fn: status ${status}, ${said.slice(0, 3).join('; ') || left.join(' ') || 'no codes'}\n${stdout.slice(0, 8000)}${stderr.slice(0, 4000)}`);
  }
}

/** Output of `debugfs.ocfs2 -R command`. */
export async function debugfs(device: MemoryDevice, command: string): Promise<string> {
  return withDir((dir) => must('debugfs.ocfs2', ['-R', command, writeOut(device, path.join(dir, 'volume'))]));
}

/** A block device's bytes at [offset, offset + length). */
export async function readBytes(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await device.read(offset, bytes);
  return bytes;
}
