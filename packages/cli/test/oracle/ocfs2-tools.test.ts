/** ocfs2-tools about what the command wrote and said: fsck.ocfs2 is content, debugfs.ocfs2 agrees on every dinode. */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FIXTURES, unpackFixture } from '../../../../test/support/fixtures.js';
import { debugfsStatMany, KNOWN_FALSE_POSITIVES, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup } from '../../../../test/support/temp.js';
import { lunfsIn } from '../support/cli.js';
import { describeTree, makeTree } from '../support/trees.js';

const cli = lunfsIn('oracle');
const inside = (name: string) => path.join(cli.directory, name);
const cleanup = new Cleanup();
beforeAll(() => makeTree(inside('tree')));
afterEach(() => cleanup.run());
afterAll(() => cli.end());

interface Stat {
  readonly path: string;
  readonly inode: number;
  readonly generation: number;
  readonly kind: string;
  readonly mode: string;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly clusters: number;
  readonly slot: number;
  readonly bit: number;
  readonly times: Readonly<Record<'atime' | 'mtime' | 'ctime', readonly [number, number]>>;
  readonly extents: readonly { readonly offset: number; readonly length: number; readonly device: number; readonly unwritten: boolean; readonly shared: boolean }[];
}

/** Compares `lunfs stat` of everything in the volume with debugfs.ocfs2, inode by inode. Returns how many there were. */
async function agreeOnEveryDinode(image: string): Promise<number> {
  const { blockSize, clusterSize } = await cli.json<{ blockSize: number; clusterSize: number }>('info', image);
  const all = await cli.json<Stat[]>('stat', '-R', '-x', image);
  const ours = [...new Map(all.map((s) => [s.inode, s])).values()];
  const theirs = await debugfsStatMany(path.resolve(cli.directory, image), ours.map((s) => s.inode), inside('script'));
  expect(theirs).toHaveLength(ours.length);
  for (const [i, s] of ours.entries()) {
    const { fields, extents } = theirs[i];
    const number = (name: string) => Number.parseInt(fields.get(name) ?? 'NaN', 10);
    const expected = {
      inode: number('Inode'), mode: Number.parseInt(fields.get('Mode') ?? '', 8), generation: number('Generation'), uid: number('User'), gid: number('Group'), size: number('Size'), links: number('Links'),
      clusters: number('Clusters'), bit: number('Sub Alloc Bit'),
      times: ['ctime', 'atime', 'mtime'].map((name) => (fields.get(name) ?? '').split(' ').map(Number)),
      extents: extents.map((e) => [e.offset, e.clusters, e.block, e.flags & 3]),
    };
    // debugfs.ocfs2 leaves out setuid, setgid and sticky.
    const found = {
      inode: s.inode, mode: Number.parseInt(s.mode, 8) & 0o777, generation: s.generation, uid: s.uid, gid: s.gid, size: s.size, links: s.links, clusters: s.clusters, bit: s.bit,
      times: [s.times.ctime, s.times.atime, s.times.mtime].map(([sec, nsec]) => [sec, nsec]),
      extents: s.extents.map((e) => [e.offset / clusterSize, e.length / clusterSize, e.device / blockSize, (e.unwritten ? 1 : 0) + (e.shared ? 2 : 0)]),
    };
    expect(found, s.path).toEqual(expected);
  }
  return ours.length;
}

describe.each([['ours', 'vmstore'], ['ours', 'default'], ['theirs', 'default']])('a volume made by %s mkfs, type %s, that we fill', (whose, type) => {
  it('is clean for fsck.ocfs2, and debugfs.ocfs2 agrees on every dinode', async () => {
    const image = `${whose}-${type}.img`;
    if (whose === 'theirs') await mkfs(inside(image), { size: 1 << 30, blockSize: 4096, clusterSize: 4096, slots: 2 });
    else await cli.volume(image, 4 * 2 ** 30, ...(type === 'vmstore' ? ['-T', 'vmstore'] : []));
    await cli.must('cp', '-rp', 'tree', `${image}:/`);
    await cli.must('disk', 'create', '-q', '--thick', `${image}:/thick.raw`, '100M');
    await cli.must('disk', 'create', '-q', `${image}:/thin.raw`, '1G');
    await cli.must('mv', `${image}:/tree/deep`, `${image}:/moved`);
    await cli.must('rm', '-r', `${image}:/moved/er/est`);
    await mustBeClean(inside(image), KNOWN_FALSE_POSITIVES);
    expect(await agreeOnEveryDinode(image)).toBeGreaterThan(300);
    await cli.must('cp', '-rp', `${image}:/tree`, `out-${image}`);
    const wanted = [...describeTree(inside('tree'), { modes: true, times: false })].filter(([name]) => !name.startsWith('./deep') && name !== '.' && name !== './small');
    const found = describeTree(inside(`out-${image}`), { modes: true, times: false });
    for (const [name, facts] of wanted) expect(found.get(name), name).toBe(facts);
    expect(fs.existsSync(path.join(inside(`out-${image}`), 'deep'))).toBe(false);
  });
});

describe.each(FIXTURES.filter((name) => name !== 'crash'))('the fixture %s, filled by Linux', (name) => {
  it('debugfs.ocfs2 agrees with lunfs stat on every dinode', async () => {
    const image = await unpackFixture(name, cli.directory);
    try {
      expect(await agreeOnEveryDinode(image)).toBeGreaterThan(20);
    } finally {
      fs.rmSync(image);
    }
  });
});

it('a cluster volume is read as it is, and written only with --offline', async () => {
  await mkfs(inside('cluster.img'), { size: 512 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, cluster: 'prod' });
  expect(await cli.must('ls', 'cluster.img')).toBe('lost+found\n');
  const refused = await cli.run(['mkdir', 'cluster.img:/d']);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--offline') as unknown });
  expect(await cli.run(['mount', 'cluster.img', '/'])).toMatchObject({ code: 32, stderr: expect.stringContaining('"prod"') as unknown });
  await cli.must('mkdir', '--offline', 'cluster.img:/d');
  expect(await cli.must('ls', 'cluster.img')).toBe('d\nlost+found\n');
  expect(await cli.must('info', 'cluster.img')).not.toContain('aborted-tunefs');
  await mustBeClean(inside('cluster.img'), KNOWN_FALSE_POSITIVES);
});
