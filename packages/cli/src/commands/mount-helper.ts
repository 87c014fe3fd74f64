/**
 * `mount.fuse.lunfs` and `umount.fuse.lunfs`: what mount(8) and umount(8) run for `mount -t fuse.lunfs`, for lines of /etc/fstab and for systemd's mount units.
 * Called as `mount.fuse.lunfs SOURCE DIR [-fnsv] [-o OPTIONS]` and `umount.fuse.lunfs DIR [-flnrv]`; exit codes are mount(8)'s.
 *
 * A volume of a cluster is mounted by lunfsd, for this boot: /etc/fstab says what comes at the next. umount(8) returns when the volume is closed: a service manager
 * stops the network and the disks behind it.
 */
import path from 'node:path';
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { unmount } from '@lunfs/fuse';
import { connectVolumeProcess, mountedDevice, startVolumeProcess, volumesHere } from '@lunfs/host';
import { explainBusy } from '../device-access.js';
import { parseMountOptions } from '../mount-options.js';
import { note } from '../output.js';
import { mountByDaemon, recovered, sharedAs } from './mount.js';
import { endUnused } from './umount.js';

interface MountFlags {
  readonly options: string[];
  readonly fake?: boolean;
  readonly sloppy?: boolean;
  readonly namespace?: string;
}

export function mountHelper(program: Command): void {
  program
    .command('mount.fuse.lunfs', { hidden: true })
    .summary('run by mount(8) for the type fuse.lunfs')
    .argument('<source>', 'a device, or UUID= or LABEL= of a volume')
    .argument('<directory>')
    .option('-o, --options <list>', 'as in fstab', (text: string, all: string[]) => [...all, ...text.split(',').filter(Boolean)], [])
    .option('-t, --type <type>', 'fuse.lunfs')
    .option('-f, --fake', 'do all but mount')
    .option('-s, --sloppy', 'ignore options that nobody knows')
    .option('-n, --no-mtab', 'there is none')
    .option('-v, --verbose', 'nothing more to say')
    .option('-N, --namespace <ns>', 'not possible')
    .action(async (source: string, text: string, { options, fake, sloppy, namespace }: MountFlags) => {
      if (namespace !== undefined) throw new UsageError('BAD_OPTION', 'EINVAL', '-N: a volume is mounted in the name space of whoever serves it; run mount there', { namespace });
      const choice = parseMountOptions(options, sloppy);
      for (const one of choice.notes) note('mount', one);
      const device = await deviceOf(source);
      const { readOnly, offline, allowOther, writeback, seal = true, kernel } = choice;
      const cluster = await sharedAs(device, choice);
      if (fake) return;
      const directory = path.resolve(text);
      if (cluster !== undefined) {
        recovered(device, false, await mountByDaemon(device, cluster, { directory, allowOther, seal, options: kernel }, 'boot'));
        return;
      }
      const { facts } = await startVolumeProcess({ device, readOnly, offline, mount: { directory, allowOther, writeback, seal, options: kernel } }).catch((error: unknown) => explainBusy(device, error));
      recovered(device, readOnly, facts);
    });
}

export function umountHelper(program: Command): void {
  program
    .command('umount.fuse.lunfs', { hidden: true })
    .summary('run by umount(8) for the type fuse.lunfs')
    .argument('<directory>')
    .option('-t, --type <type>', 'fuse.lunfs')
    .option('-f, --force', 'end the connection: who uses the mount gets errors')
    .option('-l, --lazy', 'detach it now')
    .option('-n, --no-mtab', 'there is none')
    .option('-r, --read-only', 'not possible')
    .option('-v, --verbose', 'nothing more to say')
    .option('-N, --namespace <ns>', 'not possible')
    .action(async (text: string, { force, lazy }: { readonly force?: boolean; readonly lazy?: boolean }) => {
      const directory = path.resolve(text);
      const device = mountedDevice(directory);
      if (device === undefined) throw new UsageError('NOT_MOUNTED', 'EINVAL', `${directory} is no directory`, { directory });
      const control = await connectVolumeProcess(device).catch(() => undefined); // dead: there is nothing to wait for
      try {
        await unmount(directory, force ? 'force' : lazy || control === undefined ? 'detach' : 'clean');
        // Who uses a detached mount keeps its process.
        if (control !== undefined && !lazy && (await control.status().catch(() => undefined))?.exports.length === 0) await endUnused(control);
      } finally {
        control?.close();
      }
    });
}

/** By UUID= or LABEL= where mount(8) has not found it (libblkid may not look at every device). Throws VOLUME_UNKNOWN. */
async function deviceOf(source: string): Promise<string> {
  const [, tag, quoted] = /^(UUID|LABEL)=(.+)$/i.exec(source) ?? [];
  if (tag === undefined) return source;
  const value = quoted.replace(/^"(.*)"$/, '$1');
  const uuid = value.replaceAll('-', '').toUpperCase();
  const found = (await volumesHere()).filter((one) => (tag.toUpperCase() === 'UUID' ? one.uuid === uuid : one.label === value));
  if (found.length === 1) return found[0].device;
  throw new UsageError('VOLUME_UNKNOWN', 'ENODEV',
    found.length === 0 ? `no device of this host carries a volume with ${source}` : `${found.map(({ device }) => device).join(' and ')} both carry a volume with ${source}: name the device`, { source });
}
