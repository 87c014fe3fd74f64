/** Raw I/O on the device's descriptor and on sockets, as the transmission phase uses it. */
import * as fs from 'node:fs';

export type IoCallback = (error: NodeJS.ErrnoException | null, bytes: number) => void;

/** Writes what the socket takes now, blocking descriptors all of it; 0 where it would have to wait. Throws when the peer is gone. */
export function writeNow(fd: number, views: Uint8Array[]): number {
  try {
    return views.length === 1 ? fs.writeSync(fd, views[0]) : fs.writevSync(fd, views);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}
