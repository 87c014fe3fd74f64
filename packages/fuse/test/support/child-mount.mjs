// A process with a mount, for the tests of ways out of it: one directory with the file "slow", which is never answered, and "file".
// Commands on stdin: exit, throw, close. Arguments: the mount point.
import readline from 'node:readline';
import { UsageError } from '@lunfs/device';
import { mountFuse } from '@lunfs/fuse';

const attr = (ino, mode, size) => ({
  ino, size, blocks: 0, atime: 0, atimensec: 0, mtime: 0, mtimensec: 0, ctime: 0, ctimensec: 0, mode, nlink: 1, uid: 0, gid: 0, rdev: 0, blksize: 4096,
});
const attributes = (nodeid) => ({ ttl: 0, attr: nodeid === 1 ? attr(1, 0o040755, 4096) : attr(nodeid, 0o100644, 1 << 20) });
const names = new Map([['file', 2], ['slow', 3]]);
const refuse = () => {
  throw new UsageError('READ_ONLY', 'EROFS', 'this file system is read-only');
};
const handler = {
  lookup(_caller, _parent, name) {
    const nodeid = names.get(name.toString());
    return nodeid === undefined ? { nodeid: 0, entryTtl: 0 } : { ...attributes(nodeid), nodeid, generation: 0, entryTtl: 0 };
  },
  forget() {},
  getattr: (_caller, nodeid) => attributes(nodeid),
  setattr: refuse, readlink: refuse, symlink: refuse, mknod: refuse, mkdir: refuse, unlink: refuse, rmdir: refuse, rename: refuse, link: refuse, create: refuse, write: refuse,
  open: (_caller, nodeid) => ({ nodeid, directIo: true }),
  read(_caller, file, _offset, into) {
    if (file.nodeid === 3) {
      console.log('reading slow');
      return new Promise(() => {});
    }
    into.fill(0x61);
    return into.length;
  },
  wrote() {},
  release() {},
  fsync() {},
  opendir: () => ({}),
  readdir(_caller, _directory, offset, _plus, add) {
    [...names].slice(offset).every(([name, ino], i) => add({ name: Buffer.from(name), ino, type: 8, next: offset + i + 1 }));
  },
  releasedir() {},
  fsyncdir() {},
  statfs: () => ({ blocks: 1, bfree: 0, bavail: 0, files: 2, ffree: 0, bsize: 4096, frsize: 4096, namelen: 255 }),
};

const mount = await mountFuse(handler, { directory: process.argv[2], source: 'child', onError: (error) => console.error(String(error)) });
console.log('mounted');
const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => {
  if (line === 'exit') process.exit(3);
  if (line === 'throw') throw new Error('on purpose');
  if (line === 'close') void mount.close(300).then(() => console.log('closed'));
});
await mount.closed;
console.log('ended');
input.close();
process.stdin.destroy();
