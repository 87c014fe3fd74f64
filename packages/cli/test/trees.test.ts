/** Trees through cp -r into a volume, between volumes and out again: byte for byte, with all that a tree can have. */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lunfsIn } from './support/cli.js';
import { describeTree, makeTree } from './support/trees.js';

const MIB = 2 ** 20;
const cli = lunfsIn('trees');
const inside = (name: string) => path.join(cli.directory, name);
beforeAll(() => makeTree(inside('tree')));
afterAll(() => cli.end());

describe.each([['4K clusters', ['-b', '4K', '-C', '4K']], ['1M clusters and metaecc', ['-b', '4K', '-C', '1M', '--fs-features=metaecc']], ['512-byte blocks', ['-b', '512', '-C', '4K']]])('%s', (name, options) => {
  it('a tree comes back as it was, with -p its modes and times too', async () => {
    const image = await cli.volume(`${name.replaceAll(' ', '-')}.img`, 1024 * MIB, ...options);
    await cli.must('cp', '-rp', 'tree', `${image}:/`);
    const out = `out-${name}`;
    await cli.must('cp', '-rp', `${image}:/tree`, out);
    expect(describeTree(inside(out), { modes: true, times: true })).toEqual(describeTree(inside('tree'), { modes: true, times: true }));
    const second = await cli.volume(`second-${name.replaceAll(' ', '-')}.img`, 512 * MIB);
    await cli.must('cp', '-r', `${image}:/tree`, `${second}:/copy`);
    await cli.must('cp', '-r', `${second}:/copy`, `again-${name}`);
    expect(describeTree(inside(`again-${name}`), { modes: false, times: false })).toEqual(describeTree(inside('tree'), { modes: false, times: false }));
    for (const one of [image, second]) expect(await cli.json('check', one)).toMatchObject({ clean: true, findings: [] });
    await cli.must('rm', '-r', `${image}:/tree`);
    expect(await cli.must('ls', image)).toBe('lost+found\n');
    expect(await cli.json('check', image)).toMatchObject({ clean: true, findings: [] });
  });
});

it('stops at the first full target and keeps the volume whole', async () => {
  const image = await cli.volume('full.img', 64 * MIB);
  fs.writeFileSync(inside('too-large'), Buffer.alloc(80 * MIB, 1));
  const { code, stderr } = await cli.run(['cp', 'too-large', `${image}:/`]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^lunfs cp: .*(no free cluster|space)/m);
  expect(await cli.json('check', image)).toMatchObject({ clean: true, findings: [] });
});
