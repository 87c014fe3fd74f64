/**
 * The block devices of this host as sysfs has them: whole disks with who they say they are, how they are attached, and what stands
 * on what. (Linux Documentation/ABI: sysfs-block, sysfs-class-scsi_device, sysfs-class-fc_remote_ports; scsi_transport_iscsi.)
 */
import path from 'node:path';
import { type SanHost, attribute, attributeBytes, attributeNumber, isKernelName, kernelNames, realDirectory } from './host.js';

/** How a path reaches its LUN; undefined where the kernel does not say. */
export type Transport = 'fc' | 'iscsi' | 'sas' | 'sata' | 'usb' | 'virtio' | 'nvme';

/** After which times a request on a path fails; seconds, undefined where there is no such thing. */
export interface PathTimes {
  /** A SCSI command that is not answered. */
  readonly command?: number;
  /** FC: from the loss of the remote port until its requests fail; `off`: not before `devLoss`. */
  readonly fastIoFail?: number | 'off';
  /** FC: from the loss of the remote port until the path is removed. */
  readonly devLoss?: number;
  /** iSCSI: from the loss of the session until its requests fail (replacement_timeout); `off`: they wait for ever. */
  readonly recovery?: number | 'off';
}

export interface Partition {
  readonly kernelName: string;
  readonly number: string;
  /** Which of the disk's partitions, from 1. */
  readonly index: number;
  /** Bytes from the start of the disk. */
  readonly start: number;
  readonly size: number;
  readonly holders: readonly string[];
}

/** A whole disk. Sizes in bytes. */
export interface Disk {
  readonly kernelName: string;
  /** `8:16`. */
  readonly number: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly logicalBlockSize: number;
  readonly vendor?: string;
  readonly model?: string;
  readonly revision?: string;
  readonly serial?: string;
  /** As sysfs has it: `naa.6001405…`, `eui.…`, `t10.…`. */
  readonly wwid?: string;
  /** Host, channel, target, LUN: `2:0:0:1`. */
  readonly hctl?: string;
  /** The kernel's state of the SCSI device: `running`, `offline`, `transport-offline`, `blocked`… */
  readonly state?: string;
  readonly transport?: Transport;
  /** Port or name of the target. */
  readonly target?: string;
  readonly times: PathTimes;
  /** A device-mapper device. */
  readonly mapper?: { readonly name: string; readonly uuid: string; readonly suspended: boolean };
  readonly backingFile?: string;
  /** What it stands on, and what stands on it: kernel names. */
  readonly slaves: readonly string[];
  readonly holders: readonly string[];
  readonly partitions: readonly Partition[];
}

/** Whole disks by kernel name. One that goes away while it is looked at is left out. */
export function readDisks(host: SanHost): Map<string, Disk> {
  const disks = kernelNames(host.sys, 'block').flatMap((name) => readDisk(host, name) ?? []);
  return new Map(disks.map((disk) => [disk.kernelName, disk]));
}

function readDisk(host: SanHost, kernelName: string): Disk | undefined {
  const dir = path.join(host.sys, 'block', kernelName);
  const number = attribute(dir, 'dev');
  const sectors = attributeNumber(dir, 'size');
  if (number === undefined || !/^\d+:\d+$/.test(number) || sectors === undefined || !Number.isSafeInteger(sectors * 512)) return undefined;
  const at = (...names: string[]): string | undefined => attribute(dir, ...names);
  const device = realDirectory(dir, 'device');
  const hctl = device === undefined ? undefined : /^\d+:\d+:\d+:\d+$/.exec(path.basename(device))?.[0];
  const name = at('dm', 'name');
  return {
    kernelName, number, size: sectors * 512, readOnly: at('ro') === '1', logicalBlockSize: attributeNumber(dir, 'queue/logical_block_size') ?? 512,
    ...identity(dir), hctl, state: at('device', 'state'), ...attachment(host, device, kernelName), mapper: name === undefined ? undefined : { name, uuid: at('dm', 'uuid') ?? '', suspended: at('dm', 'suspended') === '1' },
    backingFile: at('loop', 'backing_file'), slaves: kernelNames(dir, 'slaves'), holders: kernelNames(dir, 'holders'), partitions: partitionsOf(dir, kernelName),
  };
}

type Identity = Pick<Disk, 'vendor' | 'model' | 'revision' | 'serial' | 'wwid'>;

/** Vendors are numbers of the PCI bus where there is no INQUIRY (virtio): those say nothing to an operator. */
function identity(dir: string): Identity {
  const vendor = attribute(dir, 'device/vendor');
  return {
    vendor: vendor?.startsWith('0x') ? undefined : vendor, model: attribute(dir, 'device/model'), revision: attribute(dir, 'device/rev') ?? attribute(dir, 'device/firmware_rev'),
    serial: unitSerial(attributeBytes(dir, 'device/vpd_pg80')) ?? attribute(dir, 'device/serial') ?? attribute(dir, 'serial'),
    wwid: attribute(dir, 'device/wwid') ?? attribute(dir, 'wwid'),
  };
}

/** Of VPD page 0x80 (SPC-4, 7.8.15): four bytes of head, then text. */
function unitSerial(page: Buffer | undefined): string | undefined {
  if (page === undefined || page.length < 4 || page[1] !== 0x80) return undefined;
  const text = page.subarray(4, 4 + page.readUInt16BE(2)).toString('latin1').replace(/[^\x20-\x7e]/g, '').trim();
  return text === '' ? undefined : text;
}

/** Transport, target and times, from where in the tree of devices the disk hangs. */
function attachment(host: SanHost, device: string | undefined, kernelName: string): Pick<Disk, 'transport' | 'target' | 'times'> {
  const command = device === undefined ? undefined : attributeNumber(device, 'timeout');
  const where = device ?? '';
  const rport = /\/(rport-[\d:]+-\d+)\//.exec(where)?.[1];
  if (rport !== undefined) {
    const dir = path.join(host.sys, 'class/fc_remote_ports', rport);
    const fail = attribute(dir, 'fast_io_fail_tmo');
    return {
      transport: 'fc', target: attribute(dir, 'port_name'),
      times: { command, fastIoFail: fail === 'off' ? 'off' : attributeNumber(dir, 'fast_io_fail_tmo'), devLoss: attributeNumber(dir, 'dev_loss_tmo') },
    };
  }
  const session = /\/(session\d+)\//.exec(where)?.[1];
  if (session !== undefined) {
    const dir = path.join(host.sys, 'class/iscsi_session', session);
    return { transport: 'iscsi', target: attribute(dir, 'targetname'), times: { command, recovery: attribute(dir, 'recovery_tmo')?.startsWith('-') ? 'off' : attributeNumber(dir, 'recovery_tmo') } };
  }
  const known: readonly [RegExp, Transport][] = [[/\/end_device-|\/sas_/, 'sas'], [/\/ata\d+\//, 'sata'], [/\/usb\d+\//, 'usb'], [/\/virtio\d+(?:\/|$)/, 'virtio'], [/\/nvme\d*/, 'nvme']];
  return { transport: known.find(([pattern]) => pattern.test(where))?.[1] ?? (kernelName.startsWith('nvme') ? 'nvme' : undefined), times: { command } };
}

function partitionsOf(dir: string, disk: string): Partition[] {
  return kernelNames(dir).filter((name) => name.startsWith(disk)).flatMap((kernelName) => {
    const index = attributeNumber(dir, kernelName, 'partition'), start = attributeNumber(dir, kernelName, 'start'), sectors = attributeNumber(dir, kernelName, 'size');
    const number = attribute(dir, kernelName, 'dev');
    if (index === undefined || start === undefined || sectors === undefined || number === undefined) return [];
    return [{ kernelName, number, index, start: start * 512, size: sectors * 512, holders: kernelNames(dir, kernelName, 'holders') }];
  });
}

/** The partitions that a multipath map or another device-mapper disk has as maps of their own (kpartx: `part1-mpath-…`). */
export function mappedPartitions(disk: Disk, disks: ReadonlyMap<string, Disk>): Disk[] {
  return disk.holders.flatMap((name) => {
    const holder = isKernelName(name) ? disks.get(name) : undefined;
    return holder?.mapper?.uuid.startsWith('part') ? [holder] : [];
  });
}
