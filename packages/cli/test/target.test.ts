import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { formatDuration, formatSize, formatTime, parseSize } from '../src/sizes.js';
import { needDevice, parseTarget } from '../src/target.js';
import { splitNames } from '../src/volume-files.js';

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-target-'));
afterAll(() => fs.rmSync(directory, { recursive: true }));

it('tells device and path apart where both may hold colons', () => {
  const device = path.join(directory, 'pci-0000:00:1f.2');
  fs.writeFileSync(device, '');
  const odd = path.join(directory, 'a:');
  fs.mkdirSync(odd);
  fs.writeFileSync(path.join(odd, 'b'), '');
  expect(parseTarget(`${device}:/x`)).toEqual({ device, path: '/x' });
  expect(parseTarget(`${device}:/a:/b`)).toEqual({ device, path: '/a:/b' });
  expect(parseTarget(`${odd}/b:/x`)).toEqual({ device: `${odd}/b`, path: '/x' });
  expect(parseTarget(`${odd}/b`)).toBeUndefined();
  expect(parseTarget('missing.img:/x')).toEqual({ device: 'missing.img', path: '/x' });
  expect(parseTarget('plain/path')).toBeUndefined();
  expect(parseTarget(':/x')).toBeUndefined();
  expect(needDevice(`${device}:`)).toBe(device);
  expect(needDevice(`${device}:/`)).toBe(device);
  expect(() => needDevice(`${device}:/x`)).toThrow('wants the device alone');
});

it('reads and writes sizes, durations and times', () => {
  expect(['0', '512', '4K', '1.5GiB', '2tb', '20 G'].map(parseSize)).toEqual([0, 512, 4096, 1.5 * 2 ** 30, 2 * 2 ** 40, 20 * 2 ** 30]);
  for (const bad of ['', 'K', '-1', '1.0001K', '12Q', '9999P', '0x10']) expect(() => parseSize(bad), bad).toThrow('is no size');
  expect([0, 999, 1000, 1024, 1536, 4 * 2 ** 30, 1.234 * 2 ** 40].map(formatSize)).toEqual(['0 B', '999 B', '0.98 KiB', '1 KiB', '1.50 KiB', '4 GiB', '1.23 TiB']);
  expect([0.4, 59, 61, 3599, 7325].map(formatDuration)).toEqual(['0 s', '59 s', '1 min 01 s', '59 min 59 s', '2 h 02 min']);
  expect(formatTime(0)).toBe('1970-01-01 00:00:00Z');
  expect(formatTime(1_700_000_000, 5)).toBe('2023-11-14 22:13:20.000000005Z');
  expect(formatTime(Number.MAX_SAFE_INTEGER)).toBe(`${Number.MAX_SAFE_INTEGER} s`);
});

it('splits paths of bytes', () => {
  expect(splitNames(Buffer.from('//a/./b//c/../')).map(String)).toEqual(['a', 'b', 'c', '..']);
  expect(splitNames(Buffer.from([0x2f, 0xff, 0x2f, 0x2f]))).toEqual([Buffer.from([0xff])]);
  expect(splitNames(Buffer.from('/'))).toEqual([]);
});
