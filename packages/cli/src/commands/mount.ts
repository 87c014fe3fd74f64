/** `lunfs mount`: a volume process with a mount of type fuse.lunfs. Exit codes are mount(8)'s. */
import type { Command } from 'commander';
import path from 'node:path';
import { LunfsError, UsageError, openDevice } from '@lunfs/device';
import { type DaemonClient, type Persistence, type VolumeFacts, connectDaemon, startVolumeProcess } from '@lunfs/host';
import { type Geometry, RawReader } from '@lunfs/ocfs2';
import { Unsuccessful, examples } from '../command.js';
import { useData } from '../daemon-option.js';
import { note } from '../output.js';
import { type MountChoice, parseMountOptions } from '../mount-options.js';
import { needDevice } from '../target.js';
import { explainBusy } from '../device-access.js';

interface Options {
  options: string[];
  readOnly?: boolean;
  offline?: boolean;
  foreground?: boolean;
  trace?: boolean;
  verbose?: boolean;
  persist: boolean;
}

export function mount(program: Command): void {
  useData(program
    .command('mount')
    .summary('mount a volume')
    .description('Mount a volume, by a process of its own that goes on in the background. A volume of a cluster is mounted by lunfsd (lunfs up), as a member of the cluster, unless it is mounted read-only or offline. Exit code as mount(8): 0 mounted, 1 wrong usage, 32 it could not be mounted.')
    .argument('<device>', 'block device or image file')
    .argument('<directory>', 'where: an existing directory')
    .option('-o, --options <list>', 'as in fstab: ro, offline, writeback, noatime, nosuid, nodev, noexec, private, seal, … and those of mount.ocfs2', (text: string, all: string[]) => [...all, ...text.split(',').filter(Boolean)], [])
    .option('-r, --read-only', 'same as -o ro')
    .option('--offline', 'same as -o offline: write to a volume of a cluster that nobody has mounted')
    .option('--no-persist', 'do not mount it again after the next boot (a volume of a cluster)')
    .option('-f, --foreground', 'stay, until unmounted or Ctrl-C')
    .option('--trace', 'print every FUSE message (with --foreground)')
    .option('-v, --verbose', 'say where it runs')
    .addHelpText('after', 
`
A volume of a cluster stays mounted until "lunfs umount": it comes back when lunfsd is started again, and when the host is, wherever its device is then. With umount(8) it rests until
the next boot. A volume of one host alone comes back at boot by /etc/fstab. The directory of what is to come back is sealed (made immutable), so that nothing is written to it
while the volume is not mounted; it must be empty. -o noseal leaves it alone, -o seal seals it of any volume, "lunfs umount" frees it.

With -o writeback small writes end in the kernel's page cache: fast, durable at fsync as ever; a full volume is told at close or fsync, and no file can be exported meanwhile.
${examples('lunfs mount /dev/mapper/lun0 /mnt', 'lunfs mount -o ro,noatime lun.img /mnt', 'lunfs mount -o writeback lun.img /mnt', 'umount /mnt')}`)
    .action(async (text: string, directory: string, given: Options) => {
      const device = needDevice(text);
      if (given.trace && !given.foreground) throw new UsageError('BAD_OPTION', 'EINVAL', '--trace prints to the terminal: use it with --foreground', {});
      const words = [...given.options, ...(given.readOnly ? ['ro'] : []), ...(given.offline ? ['offline'] : [])];
      const choice = parseMountOptions(words);
      for (const text of choice.notes) note('mount', text);
      const { readOnly, offline, allowOther, writeback, seal, kernel } = choice;
      const cluster = await sharedAs(device, choice);
      if (cluster !== undefined) {
        if (given.foreground) throw new UsageError('BAD_OPTION', 'EINVAL', `${device} is a cluster's: lunfsd mounts it, in the background; use "lunfs up --foreground" to see its messages`, { device });
        const facts = await mountByDaemon(device, cluster, { directory: path.resolve(directory), allowOther, seal: seal ?? given.persist, options: kernel }, given.persist ? 'always' : 'boot');
        if (given.verbose) note('mount', `${device} is mounted on ${facts.mount} as a member of the cluster`);
        recovered(device, false, facts);
        return;
      }
      const started = await startVolumeProcess({
        device, readOnly, offline, foreground: given.foreground, mount: { directory, allowOther, writeback, seal, options: kernel, trace: given.trace },
      }).catch((error: unknown) => explainBusy(device, error));
      recovered(device, readOnly, started.facts);
      if (given.verbose || given.foreground) note('mount', `${device} is mounted on ${started.facts.mount}, process ${started.pid}${started.log ? `, log ${started.log}` : ''}`);
      if (given.foreground) await stay(started);
    }));
}

export function recovered(device: string, readOnly: boolean, { recovery: { slots, blocks } }: VolumeFacts): void {
  if (slots.length > 0) note('mount', `${device}: ${readOnly ? 'shown as recovery would leave it:' : 'recovered'} the journal of slot ${slots.join(', ')}${readOnly ? '' : ` (${blocks} blocks)`}`);
}

/** Undefined: the volume is one host's alone, or what is on the device cannot be told; then whoever mounts it says why. */
async function clusterOf(device: string): Promise<Geometry['stack'] | 'classic' | undefined> {
  try {
    const opened = await openDevice(device);
    try {
      const { geo } = await RawReader.open(opened);
      return geo.local ? undefined : (geo.stack ?? 'classic');
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (error instanceof LunfsError) return undefined;
    throw error;
  }
}

/** The cluster by which a volume is to be mounted; undefined: by this host alone. Throws BAD_OPTION. */
export async function sharedAs(device: string, { readOnly, offline, writeback }: MountChoice): Promise<Shared | undefined> {
  const cluster = readOnly || offline ? undefined : await clusterOf(device);
  if (cluster !== undefined && writeback) throw new UsageError('BAD_OPTION', 'EINVAL', `${device} is a cluster's: what other nodes change, too, cannot be mounted with -o writeback`, { device });
  return cluster;
}

type Shared = Exclude<Awaited<ReturnType<typeof clusterOf>>, undefined>;

export async function mountByDaemon(device: string, cluster: Shared, mount: { directory: string; allowOther: boolean; seal: boolean; options: string[] }, persistence: Persistence): Promise<VolumeFacts> {
  let daemon: DaemonClient;
  try {
    daemon = await connectDaemon();
  } catch (error) {
    if (!(error instanceof LunfsError) || error.code !== 'NO_DAEMON') throw error;
    const whose = cluster === 'classic' ? 'an o2cb cluster' : `cluster "${cluster.cluster}" (${cluster.name})`;
    throw new UsageError('NO_DAEMON', 'EPERM', `${device} belongs to ${whose}, and lunfsd is not running on this host: start it (lunfs up). If the volume is mounted nowhere, --offline writes to it without the cluster; --read-only only looks`, { device }, error);
  }
  try {
    return await daemon.mount({ device: path.resolve(device), mount }, persistence);
  } finally {
    daemon.close();
  }
}

/** Wait for the process; signals of the terminal reach it as well, those sent to us alone are handed on. */
export async function stay(started: { readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>; kill(signal: NodeJS.Signals): void }): Promise<void> {
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => started.kill('SIGTERM'));
  const { code, signal } = await started.exited;
  if (code !== 0) throw new Unsuccessful(code ?? (signal === null ? 32 : 4));
}
