/** Extended attributes and ACLs by `lunfs cp` and `lunfs stat`: in, between volumes and out again; and what is refused. */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { must } from '../../../../test/support/temp.js';
import { lunfsIn } from '../support/cli.js';

const MIB = 2 ** 20;
const cli = lunfsIn('xattrs');
afterAll(() => cli.end());

const dump = async (name: string): Promise<string> => (await must('getfattr', ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '.'], { cwd: path.join(cli.directory, name) }))
  .split('\n\n').map((one) => one.split('\n').sort().join('\n')).sort().join('\n');

describe.skipIf(lacks('attr', 'root'))('extended attributes', () => {
  it('go with -a and --preserve=xattr, stay behind with -p, and stat shows them', { timeout: 240_000 }, async () => {
    fs.mkdirSync(path.join(cli.directory, 'tree/sub'), { recursive: true });
    fs.writeFileSync(path.join(cli.directory, 'tree/file'), 'text', { mode: 0o640 });
    fs.symlinkSync('file', path.join(cli.directory, 'tree/link'));
    const set = (file: string, name: string, value: string) => must('setfattr', ['-h', '-n', name, '-v', value, file], { cwd: path.join(cli.directory, 'tree') });
    await set('file', 'user.text', 'a "value" = more');
    await set('file', 'user.odd name=\\', `0x${'00ff'.repeat(1000)}`);
    await set('file', 'user.empty', '');
    await set('link', 'trusted.link', 'of the link');
    await set('sub', 'user.directory', 'd');
    await must('setfacl', ['-m', 'u:1234:rw', 'file'], { cwd: path.join(cli.directory, 'tree') });
    await must('setfacl', ['-d', '-m', 'g:77:rx', 'sub'], { cwd: path.join(cli.directory, 'tree') });
    const image = await cli.volume('a.img', 256 * MIB), second = await cli.volume('b.img', 256 * MIB);
    await cli.must('cp', '-a', 'tree', `${image}:/`);
    await cli.must('cp', '-r', '--preserve=mode,xattr', `${image}:/tree`, `${second}:/`);
    await cli.must('cp', '-a', `${second}:/tree`, 'out');
    expect(await dump('out')).toBe(await dump('tree'));
    expect(await dump('out')).toContain('user.empty');
    await cli.must('cp', '-rp', `${image}:/tree`, 'without');
    expect(await dump('without')).toBe('');
    const shown = await cli.json('stat', `${image}:/tree/file`);
    expect(shown).toMatchObject([{ xattrs: [
      { name: 'system.posix_acl_access', value: 'user::rw-,user:1234:rw-,group::r--,mask::rw-,other::---' }, { name: 'user.empty', size: 0 },
      { name: 'user.odd name=\\', size: 2000, value: `0x${'00ff'.repeat(1000)}` }, { name: 'user.text', value: '"a \\"value\\" = more"' },
    ] }]);
    expect(await cli.must('stat', `${image}:/tree/file`)).toMatch(/^Attribute: user\.text = "a/m);
    for (const one of [image, second]) expect(await cli.json('check', one)).toMatchObject({ clean: true, findings: [] });
    expect((await cli.run(['cp', '--preserve=everything', 'tree/file', `${image}:/x`])).stderr).toMatch(/--preserve=everything: say mode/);
  });
});
