/** What a failed run says of itself in its last lines: what was found, not that something was. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { failures } from '../../scripts/lib/failures.mjs';
import { bin, root, run } from '../../scripts/lib/run.mjs';
import { debugfsStat, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

test('a finding of fsck.ocfs2 is in the first line of the error', async () => {
  const image = path.join(tempDir(cleanup, 'finding'), 'volume');
  await mkfs(image, { size: 64 << 20, blockSize: 4096, clusterSize: 4096, slots: 1 });
  await mustBeClean(image);
  const { extents, fields } = await debugfsStat(image, '/');
  expect(extents).toEqual([]); // inline, so the root's block has its links and its names
  const fd = fs.openSync(image, 'r+');
  fs.writeSync(fd, Uint8Array.of(9, 0), 0, 2, Number(fields.get('Inode')) * 4096 + 0x2a); // i_links_count
  fs.closeSync(fd);
  await expect(mustBeClean(image)).rejects.toThrow(/^fsck\.ocfs2 -fn .*: status 0, 1 findings: \[INODE_COUNT\] Inode \d+ has a link count of 9 /);
});

test('a summary has the first words of each failure, in several lines where it takes them', { timeout: 120_000 }, async () => {
  const project = tempDir(cleanup, 'failing'), directory = path.join(project, 'test');
  fs.mkdirSync(directory);
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(project, 'node_modules'));
  fs.writeFileSync(path.join(directory, 'failing.test.ts'), `import { expect, test } from 'vitest';
    test('asserts', () => { expect([{ code: 'A_CODE', message: 'inode 5 is not what it should be', block: 17 }]).toEqual([]); });
    test('throws', () => { throw new Error('the first line\\n\\nand the second'); });
    test('passes', () => {});`);
  fs.writeFileSync(path.join(directory, 'unloaded.test.ts'), "throw new Error('cannot be loaded');");
  const report = path.join(directory, 'report.json');
  await run(bin('vitest'), ['run', '--root', project, '--config', path.join(root, 'vitest.config.js'), '--project', 'local', '--reporter=json', `--outputFile.json=${report}`]);
  const name = (file: string): string => path.relative(root, path.join(directory, file));
  const told = failures(JSON.parse(fs.readFileSync(report, 'utf8')) as Parameters<typeof failures>[0]);
  expect(told.toSorted()).toEqual([
    `${name('failing.test.ts')}: asserts: AssertionError: expected [ { code: 'A_CODE', message: 'inode 5 is not what it should be', block: 17 } ] to deeply equal []`,
    `${name('failing.test.ts')}: throws: Error: the first line\n  and the second`,
    `${name('unloaded.test.ts')}: cannot be loaded`,
  ]);
});
