/** The codec: layouts against the kernel's header, every request checked, nothing a message can say crashes it or the printer. */
import { ERRNO, errnoOf, LunfsError } from '@lunfs/device';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INIT_FLAG, OPCODE } from '../../src/protocol/constants.js';
import type { OpName } from '../../src/protocol/constants.js';
import { printNotification, printReply, printRequest } from '../../src/protocol/print.js';
import { DirectoryReply, invalEntry, invalInode, notifyDelete, Replies } from '../../src/protocol/replies.js';
import { decodeRequest, FramingError } from '../../src/protocol/requests.js';
import * as structs from '../../src/protocol/structs.js';
import { answerInit } from '../../src/session/init.js';
import { message, viewOf } from '../support/messages.js';

const OPS = Object.keys(OPCODE) as OpName[];
const name = (text: string) => Buffer.from(`${text}\0`);

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, i * 4);
  return bytes;
}

describe('requests', () => {
  it('decodes names, structures and data', () => {
    expect(decodeRequest(message('LOOKUP', name('a b')))).toMatchObject({ op: 'LOOKUP', header: { nodeid: 1, unique: 2 }, body: { name: Buffer.from('a b') } });
    expect(decodeRequest(message('RENAME2', Buffer.concat([u32(9, 0, 2, 0), name('old'), name('new')]))).body)
      .toMatchObject({ newdir: 9, flags: 2, name: Buffer.from('old'), newName: Buffer.from('new') });
    expect(decodeRequest(message('SYMLINK', Buffer.concat([name('n'), name('../x/y')]))).body).toEqual({ name: Buffer.from('n'), target: Buffer.from('../x/y') });
    expect(decodeRequest(message('SETXATTR', Buffer.concat([u32(3, 1), name('user.k'), Buffer.from('val')]))).body).toEqual({ flags: 1, setxattr_flags: 0, name: Buffer.from('user.k'), value: Buffer.from('val') });
    for (const kill of [0, 1]) {
      expect(decodeRequest(message('SETXATTR', Buffer.concat([u32(3, 2, kill, 0), name('user.k'), Buffer.from('val')]))).body).toEqual({ flags: 2, setxattr_flags: kill, name: Buffer.from('user.k'), value: Buffer.from('val') });
    }
    expect(decodeRequest(message('BATCH_FORGET', u32(2, 0, 5, 0, 1, 0, 6, 0, 3, 0))).body).toEqual({ entries: [{ nodeid: 5, nlookup: 1 }, { nodeid: 6, nlookup: 3 }] });
    expect(decodeRequest(message('MKDIR', Buffer.concat([u32(0o755, 0o22), name('d'), Buffer.alloc(8)]), { total_extlen: 1 })).body).toMatchObject({ mode: 0o755, name: Buffer.from('d') });
  });

  it.each([
    ['a name without NUL', message('LOOKUP', Buffer.from('abc')), 'EINVAL'],
    ['an empty name', message('LOOKUP', name('')), 'EINVAL'],
    ['a slash in a name', message('MKDIR', Buffer.concat([u32(0, 0), name('a/b')])), 'EINVAL'],
    ['a name of 256 bytes', message('UNLINK', name('x'.repeat(256))), 'ENAMETOOLONG'],
    ['bytes behind the last name', message('RMDIR', Buffer.concat([name('a'), name('b')])), 'EINVAL'],
    ['a missing second name', message('RENAME', Buffer.concat([u32(1, 0), name('a')])), 'EINVAL'],
    ['a short structure', message('OPEN', u32(0)), 'EINVAL'],
    ['less data than a WRITE announces', message('WRITE', Buffer.concat([u32(1, 0, 0, 0, 4096, 0, 0, 0, 0, 0), Buffer.alloc(100)])), 'EINVAL'],
    ['more data than a WRITE announces', message('WRITE', Buffer.concat([u32(1, 0, 0, 0, 4, 0, 0, 0, 0, 0), Buffer.alloc(100)])), 'EINVAL'],
    ['a huge count of forgets', message('BATCH_FORGET', u32(0xffffffff, 0)), 'EINVAL'],
    ['a file offset past 2^53', message('FALLOCATE', u32(1, 0, 0, 0x40000000, 1, 0, 0, 0)), 'EFBIG'],
    ['an xattr larger than any', message('SETXATTR', Buffer.concat([u32(70_000, 0), name('user.k'), Buffer.alloc(70_000)])), 'E2BIG'],
  ] as const)('refuses %s', (_, bytes, errno) => {
    let error: unknown;
    try {
      decodeRequest(bytes);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(LunfsError);
    expect(error).not.toBeInstanceOf(FramingError);
    expect(errnoOf(error)).toBe(ERRNO[errno]);
  });

  it('takes a wrong length or extension for the end of the protocol', () => {
    expect(() => decodeRequest(Buffer.alloc(39))).toThrow(FramingError);
    expect(() => decodeRequest(message('LOOKUP', name('a'), { len: 41 }))).toThrow(FramingError);
    expect(() => decodeRequest(message('LOOKUP', name('a'), { total_extlen: 1 }))).toThrow(FramingError);
  });

  it('any bytes decode or raise a LunfsError, and always print on one line', () => {
    fc.assert(fc.property(fc.constantFrom(...OPS), fc.uint8Array({ maxLength: 300 }), fc.boolean(), (op, body, raw) => {
      const bytes = raw ? Buffer.from(body) : message(op, body);
      try {
        decodeRequest(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(LunfsError);
      }
      expect(printRequest(bytes)).not.toContain('\n');
      expect(printReply(op, bytes)).not.toContain('\n');
    }), { numRuns: 3000 });
  });
});

describe('replies', () => {
  const attr = {
    ino: 5, size: 2 ** 40, blocks: 8, atime: -1, atimensec: 1, mtime: 1e9, mtimensec: 2, ctime: 1e9, ctimensec: 3, mode: 0o100644, nlink: 1, uid: 1, gid: 2, rdev: 0, blksize: 4096,
  };

  it('splits times to live, keeps negative times, carries 64-bit sizes', () => {
    const bytes = new Replies().entry(9, { nodeid: 5, generation: 7, entryTtl: 1.5, ttl: Number.POSITIVE_INFINITY, attr });
    const view = viewOf(bytes);
    expect(structs.OUT_HEADER.read(view, 0)).toEqual({ len: 144, error: 0, unique: 9 });
    expect(structs.ENTRY_OUT.read(view, 16)).toMatchObject({ nodeid: 5, generation: 7n, entry_valid: 1, entry_valid_nsec: 5e8, attr_valid: 2 ** 31 });
    expect(structs.ATTR.read(view, 56)).toMatchObject({ size: 2 ** 40, atime: -1, mode: 0o100644 });
  });

  it('raises instead of writing an impossible number', () => {
    expect(() => new Replies().attr(1, { ttl: 0, attr: { ...attr, size: -1 } })).toThrow(LunfsError);
    expect(() => new Replies().attr(1, { ttl: 0, attr: { ...attr, ino: 2 ** 60 } })).toThrow(LunfsError);
  });

  it('fills a directory reply to its limit and not beyond', () => {
    const reply = new DirectoryReply(100, false);
    expect(reply.add({ name: Buffer.from('abc'), ino: 1, type: 8, next: 1 })).toBe(true); // 32
    expect(reply.add({ name: Buffer.from('12345678'), ino: 2, type: 8, next: 2 })).toBe(true); // 32
    expect(reply.add({ name: Buffer.from('123456789'), ino: 3, type: 8, next: 3 })).toBe(false); // 40
    expect(reply.finish(4).length).toBe(16 + 64);
    const plus = new DirectoryReply(152, true);
    expect(plus.add({ name: Buffer.from('x'), ino: 1, type: 4, next: 1 })).toBe(false); // 160
  });

  it('prints notifications', () => {
    expect(printNotification(invalInode(7, 0, -1))).toBe('<- NOTIFY INVAL_INODE ino=7 off=0 len=-1');
    expect(printNotification(invalEntry(1, Buffer.from('n'), 0))).toContain('"n"');
    expect(printNotification(notifyDelete(1, 2, Buffer.from('gone')))).toContain('child=2');
    expect(structs.OUT_HEADER.read(viewOf(invalInode(7, 0, 0)), 0)).toMatchObject({ error: 2, unique: 0 });
  });
});

describe('INIT', () => {
  const none = { posixLocks: false, flock: false, acl: false, writeback: false };

  it('agrees on features both have, on the writeback cache only where the handler asks for it', () => {
    const { reply, agreed } = answerInit(message('INIT', Buffer.concat([u32(7, 45, 131072, 0xffffffff, 0xffffffff), Buffer.alloc(44)])), none);
    const out = structs.INIT_OUT.read(viewOf(reply), 16);
    expect(out).toMatchObject({ major: 7, minor: 39, max_write: 1 << 20, max_pages: 256 });
    expect(agreed?.flags ?? 0).toBe(out.flags);
    expect(out.flags & INIT_FLAG.WRITEBACK_CACHE).toBe(0);
    expect(out.flags & (INIT_FLAG.POSIX_LOCKS | INIT_FLAG.POSIX_ACL | INIT_FLAG.DONT_MASK)).toBe(0);
    const writeback = answerInit(message('INIT', Buffer.concat([u32(7, 45, 131072, 0xffffffff, 0xffffffff), Buffer.alloc(44)])), { ...none, writeback: true });
    expect(writeback.agreed?.flags).toBe(((agreed?.flags ?? 0) | INIT_FLAG.WRITEBACK_CACHE) >>> 0);
    const acl = answerInit(message('INIT', Buffer.concat([u32(7, 45, 131072, 0xffffffff, 0xffffffff), Buffer.alloc(44)])), { ...none, acl: true });
    expect((acl.agreed?.flags ?? 0) & (INIT_FLAG.POSIX_ACL | INIT_FLAG.DONT_MASK | INIT_FLAG.SETXATTR_EXT)).toBe(INIT_FLAG.POSIX_ACL | INIT_FLAG.DONT_MASK | INIT_FLAG.SETXATTR_EXT);
    const few = answerInit(message('INIT', u32(7, 31, 4096, INIT_FLAG.ASYNC_READ)), { posixLocks: true, flock: true, acl: true, writeback: true });
    expect(few.agreed).toEqual({ minor: 31, flags: INIT_FLAG.ASYNC_READ, flags2: 0 });
  });

  it('asks a later major to speak ours, refuses an old kernel and a message that is not INIT', () => {
    const later = answerInit(message('INIT', u32(8, 0, 0, 0)), none);
    expect(later.agreed).toBeUndefined();
    expect(structs.INIT_OUT.read(viewOf(later.reply), 16).major).toBe(7);
    expect(() => answerInit(message('INIT', u32(7, 23, 0, 0)), none)).toThrow(/7\.28/);
    expect(() => answerInit(message('LOOKUP', name('x')), none)).toThrow(/INIT/);
  });
});
