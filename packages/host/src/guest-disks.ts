/**
 * Disks of guests: exports of the volume's process on this host, begun when it has none. A disk is exported under its path in the volume, so two
 * guests of one host that start at once cannot both make the export of one disk; who finds it with clients is refused. The export ends with its
 * last client, whichever guest that is: over a live migration within one host two have it for a moment. Nothing here speaks for other hosts.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import path from 'node:path';
import { LunfsError, UsageError } from '@lunfs/device';
import type { DiskDefinition, DiskEndpoint, DiskSource } from '@lunfs/qemu';
import { pause } from './clock.js';
import { type VolumeProcess, connectVolumeProcess } from './control-client.js';
import type { ExportFacts, ExportSpec } from './host-volume.js';
import { mountedDevice } from './mounted.js';
import { normalPath } from './paths.js';
import { checkSocketPath, deviceIdentity, runDirectory } from './run-directory.js';
import { startVolumeProcess } from './volume-process.js';

/** The server learns that a QEMU has ended from its socket: at once, but not before. */
const LAST_CLIENT_MS = 5_000;
const LOOK_MS = 20;

export class VolumeDisks implements DiskSource {
  async attach({ id, source, readOnly, keepSpace }: DiskDefinition, { guest, incoming }: { readonly guest: string; readonly incoming: boolean }): Promise<DiskEndpoint> {
    const { device, file } = parseSource(source);
    const spec: ExportSpec = { path: file, name: file, socket: diskSocket(device, file), readOnly, keepSpace };
    const control = await connectIfAny(device);
    if (control === undefined) {
      const { facts } = await startVolumeProcess({ device, exports: [spec] });
      return endpointOf(device, facts.exports[0]);
    }
    try {
      const others = (await control.status()).exports.filter((one) => one.path === file);
      const found = others.find(({ name }) => name === file);
      const inUse = others.find((one) => one.connections > 0 && !(incoming && one === found) && !(readOnly && one.readOnly));
      if (inUse !== undefined) throw new UsageError('GUEST_DISK_IN_USE', 'EBUSY', `guest ${guest}: disk ${id} (${source}) is in use on this host: its export ${inUse.name} has ${inUse.connections} client(s)`, { guest, disk: id, source });
      if (found === undefined) return endpointOf(device, await control.addExport(spec));
      if (found.readOnly !== readOnly) throw new UsageError('GUEST_DISK_IN_USE', 'EBUSY', `guest ${guest}: disk ${id} (${source}) is exported ${found.readOnly ? 'read-only' : 'for writing'} already, and wanted ${readOnly ? 'read-only' : 'for writing'}`, { guest, disk: id, source });
      return endpointOf(device, found);
    } finally {
      control.close();
    }
  }

  async release({ device, exportName }: DiskEndpoint, { shared }: { readonly shared: boolean }): Promise<void> {
    const control = await connectIfAny(device);
    if (control === undefined) return;
    try {
      for (let waited = 0; ; waited += LOOK_MS) {
        const found = (await control.status()).exports.find(({ name }) => name === exportName);
        if (found === undefined) return;
        if (found.connections === 0) break;
        if (shared || waited >= LAST_CLIENT_MS) return;
        await pause(LOOK_MS);
      }
      const { mount, exports } = await control.status();
      await control.removeExport(exportName);
      // A process whose last export has gone ends by itself; when it does not answer any more, the volume is unmounted.
      if (mount !== undefined || exports.length > 1) return;
      while ((await control.status()).exports.length === 0) await pause(LOOK_MS);
    } catch (error) {
      if (!(error instanceof LunfsError) || !['VOLUME_PROCESS_GONE', 'EXPORT_UNKNOWN'].includes(error.code)) throw error;
    } finally {
      control.close();
    }
  }

  async resize({ device, path: file }: DiskEndpoint, size: number): Promise<void> {
    const control = await connectVolumeProcess(device);
    try {
      await control.resizeDisk(file, size);
    } finally {
      control.close();
    }
  }
}

/**
 * `DEVICE:/path` or `MOUNTPOINT:/path`: the shortest prefix that exists on this host is where the volume is; else the device is missing. Throws
 * NOT_MOUNTED for a directory on which nothing of ours is mounted.
 */
function parseSource(source: string): { readonly device: string; readonly file: string } {
  const cuts = [...source.matchAll(/:\//g)].map(({ index }) => index);
  const at = cuts.find((cut) => cut > 0 && fs.existsSync(source.slice(0, cut))) ?? cuts[0];
  const where = source.slice(0, at);
  return { device: path.resolve(mountedDevice(where) ?? where), file: normalPath(source.slice(at + 1)) };
}

/** Stable, so that a QEMU finds it again after a restart of the process; short, for a socket's path has little room. */
function diskSocket(device: string, file: string): string {
  return checkSocketPath(path.join(runDirectory(), `${deviceIdentity(device)}-${createHash('sha256').update(file).digest('hex').slice(0, 12)}.nbd`));
}

function endpointOf(device: string, { name, path: file, socket }: ExportFacts): DiskEndpoint {
  if (socket === undefined) throw new UsageError('GUEST_DISK_IN_USE', 'EBUSY', `${device}:${file} is exported by TCP under the name that guests use; end that export`, { device, path: file });
  return { socket, exportName: name, device, path: file };
}

async function connectIfAny(device: string): Promise<VolumeProcess | undefined> {
  try {
    return await connectVolumeProcess(device);
  } catch (error) {
    if (error instanceof LunfsError && ['NO_VOLUME_PROCESS', 'DEVICE_MISSING'].includes(error.code)) return undefined;
    throw error;
  }
}
