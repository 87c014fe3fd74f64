/** Raw I/O on the device's descriptor and on sockets, as the transmission phase uses it. */
import * as fs from 'node:fs';
import type * as net from 'node:net';

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

/** From now on nothing closes the socket's handle, not even an error. Returns what closes it after all. */
export function keepOpen(socket: net.Socket): () => void {
  const inner = socket as unknown as { _destroy(error: Error | null, done: (error: Error | null) => void): void; _handle: { close(): void } | null };
  inner._destroy = (error, done) => done(error);
  return () => inner._handle?.close();
}
