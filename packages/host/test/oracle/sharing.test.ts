/** copy_file_range(2) through the mount: clusters are shared, bytes are right at every offset, and who writes afterwards writes to clusters of its own. */
import { openDevice } from '@lunfs/device';
import { Volume, fileExtents } from '@lunfs/ocfs2';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must } from '../../../../test/support/temp.js';
import { ends, logOf, testImage } from '../support/image.js';

const MIB = 1 << 20;

const PROGRAM = `
import os, sys
os.chdir(sys.argv[1])
def copy(source, target, length, at, to):
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
    done = 0
    while done < length:
        n = os.copy_file_range(a, b, length - done, at + done, to + done)
        if n == 0: break
        done += n
    os.fsync(b); os.close(a); os.close(b)
    return done
def read(name): return open(name, 'rb').read()
def put(name, at, data):
    with open(name, 'r+b') as file: file.seek(at); file.write(data); file.flush(); os.fsync(file.fileno())
def free(): return os.statvfs('.').f_bfree * os.statvfs('.').f_frsize
def check(is_so, what):
    if not is_so: raise SystemExit(what)
size = 32 << 20
data = os.urandom(size - 100)
with open('source', 'wb') as file: file.write(data); file.flush(); os.fsync(file.fileno())
before = free()
check(copy('source', 'whole', size, 0, 0) == len(data), 'not all was copied')
check(read('whole') == data, 'the copy differs')
check(before - free() < 2 << 20, f'the copy took {before - free()} bytes')
put('whole', (8 << 20) + 5, b'of the copy'); put('source', (16 << 20) + 5, b'of the source')
copied, source = bytearray(data), bytearray(data)
copied[(8 << 20) + 5:(8 << 20) + 16] = b'of the copy'; source[(16 << 20) + 5:(16 << 20) + 18] = b'of the source'
check(read('whole') == copied and read('source') == source, 'a write reached the other file')
# Not by clusters on either side, beyond the end of the target, and within one file.
piece = copy('source', 'piece', (5 << 20) + 17, 12345, 3 * 4096 + 7)
check(read('piece') == bytes(3 * 4096 + 7) + source[12345:12345 + (5 << 20) + 17], 'a piece differs')
check(copy('source', 'source', 1 << 20, 0, 64 << 20) == 1 << 20, 'within a file')
check(read('source') == source + bytes((64 << 20) - len(source)) + source[:1 << 20], 'a file differs that got a piece of itself')
`;

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('copy_file_range through the mount', () => {
  let cleanup: Cleanup;
  beforeEach(() => { cleanup = new Cleanup(); });
  afterEach(() => cleanup.run());

  test('shares clusters', { timeout: 240_000 }, async () => {
    const image = await testImage(cleanup);
    const served = await image.start({ mount: { directory: image.mountPoint } });
    await must('python3', ['-c', PROGRAM, image.mountPoint], { timeoutMs: 180_000 });
    await must('umount', [image.mountPoint]);
    expect(await ends(served)).toEqual({ code: 0, signal: null });
    expect(logOf(served)).toBe('');
    const device = await openDevice(image.image);
    const volume = await Volume.mount(device, { readOnly: true });
    const { blkno } = await volume.names.lookup(volume.names.root, Buffer.from('whole'));
    const extents = await fileExtents(volume.ctx, blkno, 0, 1000);
    const shared = extents.filter((one) => one.shared).reduce((sum, { length }) => sum + length, 0);
    expect(shared).toBeGreaterThan(30 * MIB);
    expect(shared).toBeLessThan(32 * MIB); // what is around a write is copied, a MiB of it
    await volume.unmount();
    await device.close();
    await image.check();
  });
});
