/**
 * What a guest is: a JSON document, checked field by field, with defaults filled in. It names disks by where they are in lunfs
 * (`DEVICE:/path`), never by a path of this host's run directory, so it means the same on every host that sees the LUN.
 */
import { createHash, randomUUID } from 'node:crypto';
import { UsageError } from '@lunfs/device';
import { isObject } from './qmp/message.js';

export interface DiskDefinition {
  /** Its name within the guest, also its node and device name in QEMU and, unless `serial` says otherwise, what the guest sees as its serial number. */
  readonly id: string;
  /** `DEVICE:/path`, or `MOUNTPOINT:/path`. */
  readonly source: string;
  readonly readOnly: boolean;
  /** Up to 20 characters, the limit of virtio-blk. */
  readonly serial: string;
  /** TRIM and zeroes keep the space: for thick disks. Else both give it back. */
  readonly keepSpace: boolean;
}

export type NicDefinition =
  /** Behind QEMU's own NAT: needs no rights and no set-up, reaches out only. */
  | { readonly kind: 'user'; readonly mac: string }
  /** A tap device that exists. */
  | { readonly kind: 'tap'; readonly mac: string; readonly device: string }
  /** A tap device on a bridge of the host, made at start and removed after the end. */
  | { readonly kind: 'bridge'; readonly mac: string; readonly bridge: string };

export type BootDefinition =
  /** The firmware boots from the disks in their order. */
  | { readonly kind: 'bios' }
  /** A kernel of this host, as QEMU's -kernel has it. */
  | { readonly kind: 'kernel'; readonly kernel: string; readonly initrd?: string; readonly append?: string };

export interface GuestDefinition {
  readonly name: string;
  readonly uuid: string;
  readonly memoryMiB: number;
  readonly cpus: number;
  /** A machine type of QEMU for x86-64: `q35`, `pc`, or one with its version (`pc-q35-7.2`), which a guest keeps over live migration to another QEMU. */
  readonly machine: string;
  /** CPU model of QEMU; default: all that the accelerator has. */
  readonly cpu?: string;
  /** `auto`: KVM where it has proved to work on this host, else TCG. */
  readonly accel: 'auto' | 'kvm' | 'tcg';
  readonly boot: BootDefinition;
  readonly disks: readonly DiskDefinition[];
  readonly nics: readonly NicDefinition[];
  /** A serial port, for `lunfs guest console`. */
  readonly serial: boolean;
  /** A screen, served by VNC on a Unix socket in the guest's run directory. */
  readonly vnc: boolean;
  /** Virtio ports by name (`org.qemu.guest_agent.0`), each a Unix socket in the run directory. */
  readonly channels: readonly string[];
}

/** Disks that a guest can have at once: what fits on the root ports of a q35. */
export const DISKS_MAX = 24;
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$/;
const ID = /^[A-Za-z][A-Za-z0-9_-]{0,19}$/;
const MACHINE = /^(pc|q35|pc-(q35|i440fx)-\d{1,2}\.\d{1,2})$/;
const MODEL = /^[A-Za-z0-9][A-Za-z0-9_.+,=-]{0,199}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;
/** IFNAMSIZ with its NUL. */
const INTERFACE = /^[A-Za-z0-9_.-]{1,15}$/;
const CHANNEL = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const TEXT = /^[\x20-\x7e]+$/;

/** A name that a guest can have. Throws BAD_GUEST_NAME. */
export function guestName(text: string): string {
  if (NAME.test(text)) return text;
  throw new UsageError('BAD_GUEST_NAME', 'EINVAL', `"${text}" cannot be a guest's name: up to 40 letters, digits, "-", "_" and ".", beginning with a letter or digit`, { name: text });
}

/** A definition made whole: defaults filled in, every field checked. Throws GUEST_DEFINITION with the field and what it must be. */
export function parseDefinition(input: unknown): GuestDefinition {
  const fields = new Fields('the definition', input);
  const name = fields.text('name', NAME, 'a name of up to 40 letters, digits, "-", "_" and "."');
  const uuid = fields.text('uuid', UUID, 'a UUID', randomUUID()).toLowerCase();
  const definition: GuestDefinition = {
    name, uuid,
    memoryMiB: fields.count('memoryMiB', 16, 16 << 20, 1024),
    cpus: fields.count('cpus', 1, 255, 1),
    machine: fields.text('machine', MACHINE, 'q35, pc, or one of them with a version (pc-q35-7.2)', 'q35'),
    cpu: fields.optionalText('cpu', MODEL, 'a CPU model of QEMU'),
    accel: fields.choice('accel', ['auto', 'kvm', 'tcg'], 'auto'),
    boot: bootOf(fields.object('boot', { kind: 'bios' })),
    disks: fields.list('disks').map(diskOf),
    nics: fields.list('nics').map((one, index) => nicOf(one, uuid, index)),
    serial: fields.flag('serial', true),
    vnc: fields.flag('vnc', false),
    channels: fields.texts('channels', CHANNEL, 'names of virtio ports'),
  };
  fields.end();
  if (definition.disks.length > DISKS_MAX) throw fields.wrong('disks', `at most ${DISKS_MAX}`);
  unique(fields, 'disks', definition.disks.map(({ id }) => id));
  unique(fields, 'disks', definition.disks.map(({ source }) => source));
  unique(fields, 'nics', definition.nics.map(({ mac }) => mac));
  unique(fields, 'channels', definition.channels);
  return definition;
}

/** A disk of a definition, or one to be plugged in. Throws GUEST_DEFINITION. */
export function parseDisk(input: unknown): DiskDefinition {
  return diskOf(new Fields('the disk', input));
}

function diskOf(fields: Fields): DiskDefinition {
  const id = fields.text('id', ID, 'up to 20 letters, digits, "-" and "_", beginning with a letter');
  const disk = {
    id, source: fields.text('source', /^[^\0\n]+:\/[^\0\n]+$/, 'DEVICE:/path, such as /dev/mapper/lun0:/vm1.raw'), readOnly: fields.flag('readOnly', false),
    serial: fields.text('serial', /^[\x21-\x7e]{1,20}$/, 'up to 20 characters', id), keepSpace: fields.flag('keepSpace', false),
  };
  fields.end();
  return disk;
}

function nicOf(fields: Fields, uuid: string, index: number): NicDefinition {
  const kind = fields.choice('kind', ['user', 'tap', 'bridge']);
  const mac = fields.text('mac', MAC, 'a MAC address such as 52:54:00:12:34:56', macOf(uuid, index)).toLowerCase();
  const nic: NicDefinition = kind === 'user' ? { kind, mac } : kind === 'tap'
    ? { kind, mac, device: fields.text('device', INTERFACE, 'the name of a tap device') }
    : { kind, mac, bridge: fields.text('bridge', INTERFACE, 'the name of a bridge') };
  fields.end();
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 1) throw fields.wrong('mac', 'no multicast address');
  return nic;
}

/** In QEMU's range, the same for a guest whenever it is asked for. */
function macOf(uuid: string, index: number): string {
  return `52:54:00:${createHash('sha256').update(`${uuid}/${index}`).digest('hex').slice(0, 6).replace(/(..)(..)(..)/, '$1:$2:$3')}`;
}

function bootOf(fields: Fields): BootDefinition {
  const kind = fields.choice('kind', ['bios', 'kernel']);
  const boot: BootDefinition = kind === 'bios' ? { kind } : {
    kind, kernel: fields.text('kernel', /^\/[^\0\n]+$/, 'an absolute path'), initrd: fields.optionalText('initrd', /^\/[^\0\n]+$/, 'an absolute path'),
    append: fields.optionalText('append', TEXT, 'a kernel command line'),
  };
  fields.end();
  return boot;
}

function unique(fields: Fields, name: string, values: readonly string[]): void {
  const twice = values.find((value, index) => values.indexOf(value) !== index);
  if (twice !== undefined) throw fields.wrong(name, `unlike each other: ${twice} is there twice`);
}

/** The fields of an object, each checked as it is taken; one that nobody took is refused, for it is a misspelt one. */
class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #taken = new Set<string>();

  constructor(private readonly where: string, value: unknown) {
    if (!isObject(value)) throw new UsageError('GUEST_DEFINITION', 'EINVAL', `${where} must be an object`, { field: where });
    this.#values = value;
  }

  text(name: string, shape: RegExp, what: string, otherwise?: string): string {
    const value = this.optionalText(name, shape, what) ?? otherwise;
    if (value === undefined) throw this.wrong(name, `given: ${what}`);
    return value;
  }
  optionalText(name: string, shape: RegExp, what: string): string | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'string' || !shape.test(value)) throw this.wrong(name, what);
    return value;
  }
  texts(name: string, shape: RegExp, what: string): string[] {
    const value = this.#take(name) ?? [];
    if (!Array.isArray(value) || !value.every((one): one is string => typeof one === 'string' && shape.test(one))) throw this.wrong(name, `a list of ${what}`);
    return value;
  }
  count(name: string, least: number, most: number, otherwise: number): number {
    const value = this.#take(name) ?? otherwise;
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) throw this.wrong(name, `a whole number from ${least} to ${most}`);
    return value as number;
  }
  flag(name: string, otherwise: boolean): boolean {
    const value = this.#take(name) ?? otherwise;
    if (typeof value !== 'boolean') throw this.wrong(name, 'true or false');
    return value;
  }
  choice<T extends string>(name: string, choices: readonly T[], otherwise?: T): T {
    const value = this.#take(name) ?? otherwise;
    const found = choices.find((one) => one === value);
    if (found === undefined) throw this.wrong(name, `one of ${choices.join(', ')}`);
    return found;
  }
  object(name: string, otherwise: object): Fields {
    return new Fields(`${this.where}: ${name}`, this.#take(name) ?? otherwise);
  }
  list(name: string): Fields[] {
    const value = this.#take(name) ?? [];
    if (!Array.isArray(value)) throw this.wrong(name, 'a list');
    return value.map((one: unknown, index) => new Fields(`${this.where}: ${name}[${index}]`, one));
  }
  /** Throws when there was more than what was asked for. */
  end(): void {
    const more = Object.keys(this.#values).find((name) => !this.#taken.has(name));
    if (more !== undefined) throw this.wrong(more, `left out: there is no such field, known are ${[...this.#taken].join(', ')}`);
  }
  wrong(name: string, what: string): UsageError {
    return new UsageError('GUEST_DEFINITION', 'EINVAL', `${this.where}: ${name} must be ${what}`, { field: name });
  }
  #take(name: string): unknown {
    this.#taken.add(name);
    const value = Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
    return value === null ? undefined : value;
  }
}
