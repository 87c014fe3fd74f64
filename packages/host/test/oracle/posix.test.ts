/** The table of POSIX cases (packages/fuse/test/support) on a lunfs mount, served by a volume process. */
import * as fsp from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { machineLacks, posixCases } from '../../../fuse/test/support/posix-cases.js';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must } from '../../../../test/support/temp.js';
import { type TestImage, ends, logOf, testImage } from '../support/image.js';
import type { StartedProcess } from '@lunfs/host';

/** What OCFS2, or this version, does not have. */
const NOT_SERVED: Readonly<Record<string, string>> = {
  'renameat2: NOREPLACE and EXCHANGE': 'OCFS2 cannot exchange names',
  'O_TMPFILE, given a name later': 'not served by this version',
};

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('POSIX cases on a lunfs mount', () => {
  for (const [name, clusterSize] of [['4K/4K', 4096], ['4K/1M', 1 << 20]] as const) {
    describe(name, () => {
      const cleanup = new Cleanup();
      let image: TestImage;
      let process_: StartedProcess;
      beforeAll(async () => {
        image = await testImage(cleanup, { clusterSize, size: 2 * 2 ** 30 });
        process_ = await image.start({ mount: { directory: image.mountPoint } });
      });
      afterAll(async () => {
        try {
          await must('umount', [image.mountPoint]);
          expect(await ends(process_)).toEqual({ code: 0, signal: null });
          expect(logOf(process_)).toBe('');
          await image.check();
        } finally {
          await cleanup.run();
        }
      });
      for (const [index, one] of posixCases.entries()) {
        const missing = NOT_SERVED[one.name] ?? one.needs?.map(machineLacks).find((reason) => reason !== undefined);
        if (NOT_SERVED[one.name] !== undefined) continue;
        it.skipIf(missing !== undefined)(`${one.name}${missing === undefined ? '' : ` (skipped: ${missing})`}`, async () => {
          const own = path.join(image.mountPoint, `case-${index}`);
          await fsp.mkdir(own);
          await one.run(own);
        }, one.timeout ?? 30_000);
      }
    });
  }
});
