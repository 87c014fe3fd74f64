/** Extended attributes and POSIX ACLs through the mount: who may do what, what is inherited, what chmod does; and again after a remount. */
import { afterAll, describe, expect, test } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must } from '../../../../test/support/temp.js';
import { ends, logOf, testImage } from '../support/image.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

const COMMON = `
import os, stat, struct, sys, errno
os.chdir(sys.argv[1])
ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
UO, U, GO, G, M, O = 1, 2, 4, 8, 16, 32
def acl(*entries): return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', e[0], e[1], e[2] if len(e) > 2 else 0xffffffff) for e in entries)
def shown(path, name=ACCESS): return [e[:2] + ((e[2],) if e[2] != 0xffffffff else ()) for e in struct.iter_unpack('<HHI', os.getxattr(path, name)[4:])]
def mode(path): return oct(os.lstat(path).st_mode & 0o7777)
def check(is_, want):
    if is_ != want: raise AssertionError(f'{is_!r}, expected {want!r}')
def fails(with_, call, *args):
    try: call(*args)
    except OSError as e: check(e.errno, getattr(errno, with_))
    else: raise AssertionError(f'{call} should fail with {with_}')
def as_user(uid, groups, work):
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups); os.setgid(uid); os.setuid(uid); work(); os._exit(0)
        except BaseException as e:
            print(uid, repr(e), file=sys.stderr); os._exit(1)
    check(os.waitpid(child, 0)[1], 0)
def reads(path): return lambda: os.close(os.open(path, os.O_RDONLY))
def denied(path, flags): return lambda: fails('EACCES', os.open, path, flags)
NAMED = ((UO, 7), (U, 5, 1001), (GO, 4), (G, 6, 2000), (M, 6), (O, 0))
`;

const WRITE = `${COMMON}
os.umask(0o022)
os.chmod('.', 0o777)
def file(name, m=0o644):
    with open(name, 'w') as f: f.write('text')
    os.chmod(name, m)

# Names, values, flags.
file('f')
os.setxattr('f', 'user.a', b'one', os.XATTR_CREATE); fails('EEXIST', os.setxattr, 'f', 'user.a', b'', os.XATTR_CREATE)
fails('ENODATA', os.setxattr, 'f', 'user.b', b'', os.XATTR_REPLACE); fails('ENODATA', os.getxattr, 'f', 'user.b'); fails('ENODATA', os.removexattr, 'f', 'user.b')
os.setxattr('f', 'trusted.t', b'root alone'); os.setxattr('f', 'security.test', b'label')
as_user(1001, [], lambda: (check(sorted(os.listxattr('f')), ['security.test', 'user.a']), check(os.getxattr('f', 'user.a'), b'one'), fails('EACCES', os.setxattr, 'f', 'user.a', b'x')))
check(sorted(os.listxattr('f')), ['security.test', 'trusted.t', 'user.a'])
os.setxattr('f', 'user.large', bytes(range(256)) * 256); fails('E2BIG', os.setxattr, 'f', 'user.larger', bytes(65537))
for i in range(150): os.setxattr('f', f'user.many {i}', str(i).encode() * (i % 40))
for i in range(0, 150, 3): os.removexattr('f', f'user.many {i}')
os.symlink('f', 'l'); fails('EPERM', lambda: os.setxattr('l', 'user.a', b'', follow_symlinks=False))
os.setxattr('l', 'trusted.a', b'on a link', follow_symlinks=False)
fails('EOPNOTSUPP', os.setxattr, 'f', 'odd.name', b'')

# An ACL decides who may do what; named users and groups count as far as the mask lets them.
file('acl', 0o600)
as_user(1001, [], denied('acl', os.O_RDONLY))
os.setxattr('acl', ACCESS, acl((UO, 6), (U, 4, 1001), (GO, 0), (G, 6, 2000), (M, 4), (O, 0)))
check(mode('acl'), '0o640')
as_user(1001, [], reads('acl')); as_user(1001, [], denied('acl', os.O_WRONLY))
as_user(1002, [2000], reads('acl')); as_user(1002, [2000], denied('acl', os.O_WRONLY)); as_user(1002, [], denied('acl', os.O_RDONLY))
os.chmod('acl', 0o660)
check(shown('acl'), [(UO, 6), (U, 4, 1001), (GO, 0), (G, 6, 2000), (M, 6), (O, 0)])
as_user(1002, [2000], lambda: os.close(os.open('acl', os.O_WRONLY))); as_user(1001, [], denied('acl', os.O_WRONLY))
os.chmod('acl', 0o600)
as_user(1001, [], denied('acl', os.O_RDONLY)); as_user(1002, [2000], denied('acl', os.O_RDONLY))
os.setxattr('acl', ACCESS, acl((UO, 6), (GO, 4), (O, 4)))
check((mode('acl'), os.listxattr('acl')), ('0o644', []))
as_user(1002, [], reads('acl'))
fails('EINVAL', os.setxattr, 'acl', ACCESS, acl((UO, 6), (U, 4, 1), (GO, 4), (O, 4))); fails('EACCES', os.setxattr, 'acl', DEFAULT, acl(*NAMED))
as_user(1001, [], lambda: fails('EPERM', os.setxattr, 'acl', ACCESS, acl((UO, 6), (GO, 4), (O, 4))))

# Setgid falls when somebody outside the group sets an ACL.
file('sgid'); os.chown('sgid', 1001, 3000); os.chmod('sgid', 0o2755)
as_user(1001, [3000], lambda: os.setxattr('sgid', ACCESS, acl(*NAMED))); check(mode('sgid'), '0o2760')
as_user(1001, [], lambda: os.setxattr('sgid', ACCESS, acl(*NAMED))); check(mode('sgid'), '0o760')

# Capabilities go with the first write, and with a change of the owner.
file('cap'); CAP = struct.pack('<IIIII', 0x02000001, 0x400, 0, 0, 0)
for change in (lambda: os.close(os.open('cap', os.O_WRONLY)), lambda: os.truncate('cap', 1), lambda: os.chown('cap', 1001, -1)):
    os.setxattr('cap', 'security.capability', CAP); check(os.getxattr('cap', 'security.capability'), CAP)
    os.close(os.open('cap', os.O_RDONLY)); check(os.getxattr('cap', 'security.capability'), CAP)
    change(); fails('ENODATA', os.getxattr, 'cap', 'security.capability')

# Default ACLs are inherited, in the umask's place.
os.mkdir('d', 0o755); os.setxattr('d', DEFAULT, acl(*NAMED)); check(mode('d'), '0o755')
os.umask(0o077)
os.close(os.open('d/file', os.O_CREAT | os.O_WRONLY, 0o666)); os.mkdir('d/sub', 0o777); os.mkfifo('d/fifo', 0o666); os.symlink('x', 'd/link')
os.mkdir('plain', 0o777); os.close(os.open('plain/file', os.O_CREAT, 0o666))
check([mode(p) for p in ('d/file', 'd/sub', 'd/fifo', 'plain', 'plain/file')], ['0o660', '0o760', '0o660', '0o700', '0o600'])
check((shown('d/sub'), shown('d/sub', DEFAULT)), (list(NAMED), list(NAMED)))
check(shown('d/file'), [(UO, 6), (U, 5, 1001), (GO, 4), (G, 6, 2000), (M, 6), (O, 0)])
as_user(1001, [], reads('d/file')); as_user(1002, [], denied('d/file', os.O_RDONLY))
os.removexattr('d', DEFAULT); os.mkdir('d/later', 0o777); check((mode('d/later'), os.listxattr('d/later')), ('0o700', []))
`;

const AGAIN = `${COMMON}
check(os.getxattr('f', 'user.large'), bytes(range(256)) * 256)
check(sorted(os.listxattr('f')), sorted(['security.test', 'trusted.t', 'user.a', 'user.large'] + [f'user.many {i}' for i in range(150) if i % 3]))
for i in range(150):
    if i % 3: check(os.getxattr('f', f'user.many {i}'), str(i).encode() * (i % 40))
check(os.getxattr('l', 'trusted.a', follow_symlinks=False), b'on a link')
check((shown('d/sub', DEFAULT), shown('sgid')), (list(NAMED), list(NAMED)))
as_user(1001, [], reads('d/file')); as_user(1002, [], denied('d/file', os.O_RDONLY))
os.remove('f'); os.remove('sgid')
`;

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('extended attributes and ACLs through the mount', () => {
  test('are set, decide, are inherited, and last', { timeout: 180_000 }, async () => {
    const image = await testImage(cleanup);
    for (const script of [WRITE, AGAIN]) {
      const served = await image.start({ mount: { directory: image.mountPoint } });
      await must('python3', ['-c', script, image.mountPoint], { timeoutMs: 120_000 });
      await must('umount', [image.mountPoint]);
      expect(await ends(served)).toEqual({ code: 0, signal: null });
      expect(logOf(served)).toBe('');
      await image.check();
    }
  });

  test('a volume without the feature has none, and modes as ever', { timeout: 120_000 }, async () => {
    const image = await testImage(cleanup, { features: 'noxattr' });
    const served = await image.start({ mount: { directory: image.mountPoint } });
    await must('python3', ['-c', `${COMMON}
fails('EOPNOTSUPP', os.setxattr, '.', 'user.a', b''); fails('EOPNOTSUPP', os.setxattr, '.', ACCESS, acl((UO, 7), (GO, 5), (O, 5)))
os.chmod('.', 0o755); os.umask(0o027); os.mkdir('d', 0o777); check(mode('d'), '0o750')
as_user(1001, [], lambda: os.listdir('.')); as_user(1001, [], lambda: fails('EACCES', os.listdir, 'd'))
`, image.mountPoint], { timeoutMs: 60_000 });
    await must('umount', [image.mountPoint]);
    expect(await ends(served)).toEqual({ code: 0, signal: null });
    await image.check();
  });
});
