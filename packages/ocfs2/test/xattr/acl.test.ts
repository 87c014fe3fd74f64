import { describe, expect, test } from 'vitest';
import { ACL_TAG, type AclEntry, aclAfterChmod, aclForNew, aclFromXattr, aclMode, aclToXattr, encodeAcl, parseAcl } from '../../src/xattr/index.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';
import { DIR, FILE, Names, bytes, symlink } from '../volume/support.js';

const { USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER } = ACL_TAG;
const NO_ID = 0xffffffff;
const acl = (...entries: [tag: number, perm: number, id?: number][]): AclEntry[] => entries.map(([tag, perm, id = NO_ID]) => ({ tag, perm, id }));
const xattr = (entries: AclEntry[]): Uint8Array => aclToXattr(encodeAcl(entries));

const NAMED = acl([USER_OBJ, 7], [USER, 5, 1001], [GROUP_OBJ, 4], [GROUP, 6, 100], [MASK, 6], [OTHER, 0]);
const ACCESS = bytes('system.posix_acl_access');
const DEFAULT = bytes('system.posix_acl_default');

describe('POSIX ACLs', () => {
  test('have one form on disk and one in system calls', () => {
    expect(parseAcl(encodeAcl(NAMED))).toEqual(NAMED);
    expect(aclFromXattr(xattr(NAMED))).toEqual(NAMED);
    expect(Buffer.from(encodeAcl(acl([USER, 5, 1001]))).toString('hex')).toBe('02000500e9030000');
    expect(aclFromXattr(new Uint8Array())).toEqual([]);
  });

  test.each([
    ['no others', acl([USER_OBJ, 7], [GROUP_OBJ, 4])],
    ['no mask', acl([USER_OBJ, 7], [USER, 5, 1], [GROUP_OBJ, 4], [OTHER, 0])],
    ['wrong order', acl([GROUP_OBJ, 4], [USER_OBJ, 7], [OTHER, 0])],
    ['two owners', acl([USER_OBJ, 7], [USER_OBJ, 7], [GROUP_OBJ, 4], [OTHER, 0])],
    ['permissions', acl([USER_OBJ, 8], [GROUP_OBJ, 4], [OTHER, 0])],
    ['unknown tag', acl([USER_OBJ, 7], [3, 7], [GROUP_OBJ, 4], [OTHER, 0])],
  ])('that are none are refused: %s', (_what, entries) => {
    expect(() => aclFromXattr(xattr(entries))).toThrow(expect.objectContaining({ errno: 'EINVAL' }) as Error);
  });

  test('say what the mode is, follow chmod, and limit what is created', () => {
    expect(aclMode(NAMED)).toEqual({ bits: 0o760, exact: false });
    expect(aclMode(acl([USER_OBJ, 6], [GROUP_OBJ, 4], [OTHER, 1]))).toEqual({ bits: 0o641, exact: true });
    expect(aclAfterChmod(NAMED, 0o105)).toEqual(acl([USER_OBJ, 1], [USER, 5, 1001], [GROUP_OBJ, 4], [GROUP, 6, 100], [MASK, 0], [OTHER, 5]));
    expect(aclForNew(NAMED, 0o100644)).toEqual({ mode: 0o100640, acl: acl([USER_OBJ, 6], [USER, 5, 1001], [GROUP_OBJ, 4], [GROUP, 6, 100], [MASK, 4], [OTHER, 0]) });
    expect(aclForNew(acl([USER_OBJ, 7], [GROUP_OBJ, 5], [OTHER, 5]), 0o40770)).toEqual({ mode: 0o40750, acl: undefined });
  });

  test('set the mode, follow it, are inherited and go', async () => {
    const device = await makeVolume(GEOMETRIES[0]);
    const fs = await Names.open(device);
    const { root } = fs.ns;
    const mode = async (ino: number): Promise<string> => ((await fs.ns.attributes(ino)).mode & 0o7777).toString(8);
    const read = async (ino: number, name = ACCESS): Promise<AclEntry[] | undefined> =>
      fs.ns.getXattr(ino, name).then(aclFromXattr, (error: { code: string }) => (error.code === 'NO_XATTR' ? undefined : Promise.reject(error as unknown as Error)));
    const file = (await fs.create(root, 'file', { ...FILE, mode: 0o102755 })).blkno;
    await fs.ns.setXattr(file, ACCESS, xattr(NAMED));
    expect([await mode(file), await read(file)]).toEqual(['2760', NAMED]);
    await fs.ns.setXattr(file, ACCESS, xattr(NAMED), { killSetgid: true });
    expect(await mode(file)).toBe('760');
    await fs.ns.change(file, { mode: 0o640 });
    expect([await mode(file), await read(file)]).toEqual(['640', aclAfterChmod(NAMED, 0o640)]);
    await fs.ns.setXattr(file, ACCESS, xattr(acl([USER_OBJ, 6], [GROUP_OBJ, 4], [OTHER, 4])));
    expect([await mode(file), await read(file), await fs.ns.listXattr(file)]).toEqual(['644', undefined, []]);
    await fs.ns.removeXattr(file, ACCESS);
    await expect(fs.ns.setXattr(file, DEFAULT, xattr(NAMED))).rejects.toMatchObject({ errno: 'EACCES' });

    const directory = (await fs.create(root, 'directory', DIR)).blkno;
    await fs.ns.setXattr(directory, DEFAULT, xattr(NAMED));
    expect([await mode(directory), await read(directory), await read(directory, DEFAULT)]).toEqual(['755', undefined, NAMED]);
    const child = (await fs.create(directory, 'child', { ...FILE, mode: 0o100666, umask: 0o077 })).blkno;
    expect([await mode(child), await read(child), await read(child, DEFAULT)]).toEqual(['660', aclAfterChmod(NAMED, 0o660), undefined]);
    const sub = (await fs.create(directory, 'sub', { ...DIR, mode: 0o040777, umask: 0o077 })).blkno;
    expect([await mode(sub), await read(sub), await read(sub, DEFAULT)]).toEqual(['760', NAMED, NAMED]);
    const link = (await fs.create(directory, 'link', symlink('child'))).blkno;
    expect([await mode(link), await fs.ns.listXattr(link)]).toEqual(['777', []]);
    const plain = (await fs.create(root, 'masked', { ...FILE, mode: 0o100666, umask: 0o027 })).blkno;
    expect(await mode(plain)).toBe('640');
    await fs.ns.removeXattr(directory, DEFAULT);
    expect(await mode((await fs.create(directory, 'later', { ...FILE, mode: 0o100666, umask: 0o022 })).blkno)).toBe('644');
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
  });
});
