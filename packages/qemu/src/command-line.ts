/**
 * The command line of QEMU for a guest. Nothing but what is here makes the machine: no user's or system's configuration, no default devices.
 * Block nodes and devices are JSON, as they are over QMP. The sandbox lets QEMU start no program and change neither identity nor limits; it
 * needs neither, because what takes rights (tap devices) is made before it starts.
 */
import { DISKS_MAX, type GuestDefinition } from './definition.js';
import { diskDevice, hasRootPorts, nbdNode, nicBackend, nicDevice, portName, rawNode, rootPort } from './devices.js';
import type { AttachedDisk, GuestPaths } from './run-files.js';

export interface CommandLineOptions {
  readonly definition: GuestDefinition;
  readonly accel: 'kvm' | 'tcg';
  readonly disks: readonly AttachedDisk[];
  /** Tap device of each card, undefined where it has none. */
  readonly taps: readonly (string | undefined)[];
  readonly paths: GuestPaths;
  /** Wait for the state of a guest that migrates here. */
  readonly incoming: boolean;
}

/** Arguments for qemu-system-x86_64. The guest stands still (-S) until it is told to go on. */
export function commandLine({ definition, accel, disks, taps, paths, incoming }: CommandLineOptions): string[] {
  const { name, uuid, memoryMiB, cpus, machine, cpu, boot } = definition;
  const args = [
    '-nodefaults', '-no-user-config', '-S', '-name', `guest=${name},process=lunfs-${name}`.slice(0, 128), '-uuid', uuid,
    '-machine', `${machine},vmport=off,usb=off`, '-accel', accel === 'kvm' ? 'kvm' : 'tcg,thread=multi', '-cpu', cpu ?? (accel === 'kvm' ? 'host' : 'max'),
    '-m', `${memoryMiB}M`, '-smp', String(cpus), '-pidfile', paths.pid,
    '-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ...monitor('monitor', paths.monitor), ...monitor('queries', paths.queries),
    ...(boot.kind === 'kernel' ? ['-kernel', boot.kernel, ...(boot.initrd === undefined ? [] : ['-initrd', boot.initrd]), ...(boot.append === undefined ? [] : ['-append', boot.append])] : []),
  ];
  const device = (options: object): void => void args.push('-device', JSON.stringify(options));
  if (hasRootPorts(machine)) for (let port = 0; port < DISKS_MAX; port++) device(rootPort(port));
  disks.forEach((disk, index) => {
    args.push('-blockdev', JSON.stringify(nbdNode(disk, disk.endpoint, 0)), '-blockdev', JSON.stringify(rawNode(disk, 0)));
    device(diskDevice(disk, portName(machine, disk.port), boot.kind === 'bios' ? index : undefined));
  });
  definition.nics.forEach((nic, index) => {
    args.push('-netdev', JSON.stringify(nicBackend(nic, index, taps[index])));
    device(nicDevice(nic, index));
  });
  if (definition.serial) args.push('-chardev', socket('serial', paths.serial), '-serial', 'chardev:serial');
  if (definition.channels.length > 0) device({ driver: 'virtio-serial-pci', id: 'ports' });
  definition.channels.forEach((channel, index) => {
    args.push('-chardev', socket(`channel${index}`, paths.channel(channel)));
    device({ driver: 'virtserialport', chardev: `channel${index}`, name: channel });
  });
  if (definition.vnc) {
    args.push('-vnc', `unix:${doubled(paths.vnc)}`);
    device({ driver: 'VGA', id: 'screen' });
  } else {
    args.push('-display', 'none');
  }
  if (incoming) args.push('-incoming', 'defer');
  return args;
}

function monitor(id: string, path: string): string[] {
  return ['-chardev', socket(id, path), '-mon', `chardev=${id},mode=control`];
}

function socket(id: string, path: string): string {
  return `socket,id=${id},path=${doubled(path)},server=on,wait=off`;
}

/** A comma ends a value of QEMU's own option syntax; doubled it is one. */
function doubled(value: string): string {
  return value.replaceAll(',', ',,');
}
