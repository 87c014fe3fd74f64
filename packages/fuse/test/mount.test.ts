/** The session on real mounts: POSIX cases over both kinds of backing, in-place I/O by the workers, notifications, ends of life. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as fsp from 'node:fs/promises';
import path from 'node:path';
import { type FuseMount, mountFuse } from '@lunfs/fuse';
import { MemoryDevice, openDevice } from '@lunfs/device';
import type { FileDevice } from '@lunfs/device';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cleanup, sparseFile, tempDir } from '../../../test/support/temp.js';
import { MemoryFs } from './support/memory-fs.js';
import type { MemoryFsOptions } from './support/memory-fs.js';
import { machineLacks, posixCases } from './support/posix-cases.js';

const lacks = process.getuid?.() !== 0 ? 'mounting needs root' : !fs.existsSync('/dev/fuse') ? 'there is no /dev/fuse' : undefined;
const SIZE = 512 << 20;

async function backing(cleanup: Cleanup, kind: 'memory' | 'direct'): Promise<FileDevice | MemoryDevice> {
  if (kind === 'memory') return new MemoryDevice({ size: SIZE, logicalBlockSize: 4096 });
  const device = await openDevice(sparseFile(path.join(tempDir(cleanup, 'fuse'), 'lun'), SIZE), { write: true, logicalBlockSize: 4096 });
  cleanup.add(() => device.close());
  assert.ok(device.direct, 'the temporary directory supports O_DIRECT (set LUNFS_TEST_DIR to one that does)');
  return device;
}

async function mounted(cleanup: Cleanup, device: FileDevice | MemoryDevice, options: MemoryFsOptions = {}, errors: unknown[] = []): Promise<{ mount: FuseMount; handler: MemoryFs; directory: string }> {
  const directory = tempDir(cleanup, 'mnt');
  const handler = new MemoryFs(device, options);
  const mount = await mountFuse(handler, { directory, source: 'memory', onError: (error) => errors.push(error) });
  cleanup.add(() => mount.close(500));
  return { mount: mount as unknown as FuseMount, handler, directory };
}

describe.skipIf(lacks !== undefined)(`FUSE mounts${lacks === undefined ? '' : ` (skipped: ${lacks})`}`, () => {
  for (const [kind, options] of [['memory', {}], ['direct', {}], ['direct', { directIo: true }], ['memory', { ttl: 0, slow: () => new Promise<void>((resolve) => { setImmediate(resolve); }) }]] as const) {
    describe(`POSIX cases over a ${kind} device ${Object.keys(options).join(' and ')}`, () => {
      const cleanup = new Cleanup();
      const errors: unknown[] = [];
      let handler: MemoryFs;
      let directory: string;
      beforeAll(async () => {
        ({ handler, directory } = await mounted(cleanup, await backing(cleanup, kind), options, errors));
      });
      afterAll(async () => {
        await cleanup.run();
        expect(errors).toEqual([]);
        expect(handler.counts.destroyed).toBe(1);
      });
      for (const [index, one] of posixCases.entries()) {
        const missing = one.needs?.map(machineLacks).find((reason) => reason !== undefined);
        it.skipIf(missing !== undefined)(`${one.name}${missing === undefined ? '' : ` (skipped: ${missing})`}`, async () => {
          const own = path.join(directory, `case-${index}`);
          await fsp.mkdir(own);
          await one.run(own);
        }, one.timeout ?? 30_000);
      }
    });
  }
});
