/**
 * Binding a Unix socket so that nobody but its owner can ever connect: it is made in a directory of mode 0700, gets its
 * mode there, and only then its name. Taking the name fails if somebody else has it by then.
 */
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { UsageError } from '@lunfs/device';

export interface BoundSocket {
  /** Remove the name, if it is still this socket's. */
  unlink(): void;
}

/** Errors: NBD_ADDRESS_IN_USE, or what the file system says. */
export async function bindUnix(server: net.Server, name: string, mode: number): Promise<BoundSocket> {
  const target = path.resolve(name);
  const found = fs.lstatSync(target, { throwIfNoEntry: false });
  if (found !== undefined) {
    if (!found.isSocket()) throw inUse(target, 'is no socket; choose another path');
    if (await answers(target)) throw inUse(target, 'belongs to a running server; stop it or choose another path');
  }
  const directory = fs.mkdtempSync(path.join(path.dirname(target), '.n'));
  try {
    const first = path.join(directory, 's');
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(first, () => {
        server.off('error', reject);
        resolve();
      });
    });
    fs.chmodSync(first, mode);
    if (found !== undefined && fs.lstatSync(target, { throwIfNoEntry: false })?.ino === found.ino) fs.unlinkSync(target);
    try {
      fs.linkSync(first, target);
    } catch (error) {
      server.close();
      throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? inUse(target, 'was taken by another server just now') : error;
    }
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
  const { ino } = fs.lstatSync(target);
  return {
    unlink: () => {
      if (fs.lstatSync(target, { throwIfNoEntry: false })?.ino === ino) fs.unlinkSync(target);
    },
  };
}

/** Somebody accepts connections at the socket. */
function answers(target: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path: target });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    // EACCES and EAGAIN come from live sockets; only a refused connection proves that nobody listens.
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'));
  });
}

function inUse(target: string, why: string): UsageError {
  return new UsageError('NBD_ADDRESS_IN_USE', 'EBUSY', `${target} ${why}`, { path: target });
}
