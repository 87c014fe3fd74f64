/**
 * The exact lines to use a disk: for QEMU, libvirt and qemu-img, over NBD or by the path in a mount.
 *
 * What they insist on, and why:
 *  - `cache.direct=on`: no page cache of the host between guest and LUN; other hosts write the LUN too.
 *  - `reconnect-delay`: requests wait that long for a restarted volume process instead of failing; what was acknowledged is there.
 *  - `werror=stop,rerror=stop`: past that a guest pauses, it never sees an I/O error for an outage of ours.
 *  - `discard=unmap`: the guest's TRIM gives space back.
 *  - by path: O_DIRECT and `aio=threads`, which every kernel's FUSE serves; QEMU's own image locks stay on, they work on the mount.
 */
import { UsageError } from '@lunfs/device';
import type { ExportFacts } from './host-volume.js';

/** Seconds a QEMU client waits for the server to come back. */
const RECONNECT_DELAY = 300;

/** A disk as a guest reaches it. */
export type DiskAccess =
  | { readonly kind: 'nbd'; readonly export: Pick<ExportFacts, 'name' | 'uri' | 'socket' | 'tcp' | 'readOnly'> }
  | { readonly kind: 'file'; readonly path: string; readonly readOnly?: boolean };

export interface DiskLines {
  /** Arguments of qemu-system-*, one per element. */
  readonly qemu: readonly string[];
  /** The same for a shell, quoted. */
  readonly qemuCommand: string;
  /** The `<disk>` element of a libvirt domain. */
  readonly libvirt: string;
  /** qemu-img and tools of libnbd that show or copy the disk. */
  readonly qemuImg: readonly string[];
}

export interface LineOptions {
  /** Node and device name in QEMU: letters, digits, `-`, `_`, `.`; default `disk0`. */
  readonly id?: string;
  /** Target of the libvirt disk; default `vda`. */
  readonly target?: string;
}

export function diskLines(access: DiskAccess, options: LineOptions = {}): DiskLines {
  const id = options.id ?? 'disk0';
  if (!/^[A-Za-z][A-Za-z0-9_.-]*$/.test(id)) throw new UsageError('QEMU_ID', 'EINVAL', `${id} cannot be a name in QEMU: letters, digits, "-", "_" and ".", beginning with a letter`, { id });
  const qemu = ['-blockdev', JSON.stringify(blockdev(access, id)), '-device', `virtio-blk-pci,drive=${id},id=${id}-device,werror=stop,rerror=stop`];
  return { qemu, qemuCommand: qemu.map(shellQuote).join(' '), libvirt: libvirtDisk(access, options.target ?? 'vda'), qemuImg: imgLines(access) };
}

/** The -blockdev of a disk: a raw node (so that the layer below can be exchanged under a running guest) over NBD or the file. */
function blockdev(access: DiskAccess, id: string): Record<string, unknown> {
  const readOnly = access.kind === 'nbd' ? access.export.readOnly : (access.readOnly ?? false);
  const common = { cache: { direct: true, 'no-flush': false }, 'read-only': readOnly, discard: 'unmap' };
  return { driver: 'raw', 'node-name': id, ...common, file: access.kind === 'nbd' ? nbdNode(access.export, readOnly) : fileNode(access.path, readOnly) };
}

function nbdNode({ name, socket, tcp }: Extract<DiskAccess, { kind: 'nbd' }>['export'], readOnly: boolean): Record<string, unknown> {
  const server = socket !== undefined ? { type: 'unix', path: socket } : { type: 'inet', host: tcp?.host ?? '127.0.0.1', port: String(tcp?.port ?? 10809) };
  return { driver: 'nbd', server, export: name, 'reconnect-delay': RECONNECT_DELAY, cache: { direct: true, 'no-flush': false }, 'read-only': readOnly, discard: 'unmap' };
}

function fileNode(path: string, readOnly: boolean): Record<string, unknown> {
  return { driver: 'file', filename: path, aio: 'threads', cache: { direct: true, 'no-flush': false }, 'read-only': readOnly, discard: 'unmap' };
}

function libvirtDisk(access: DiskAccess, target: string): string {
  const driver = `<driver name='qemu' type='raw' cache='none'${access.kind === 'file' ? " io='threads'" : ''} discard='unmap' error_policy='stop' rerror_policy='stop'/>`;
  const lines = [`<disk type='${access.kind === 'nbd' ? 'network' : 'file'}' device='disk'>`, `  ${driver}`];
  const readOnly = access.kind === 'file' ? access.readOnly : access.export.readOnly;
  if (access.kind === 'file') lines.push(`  <source file='${xml(access.path)}'/>`);
  else {
    const { name, socket, tcp } = access.export;
    const host = socket !== undefined ? `<host transport='unix' socket='${xml(socket)}'/>` : `<host name='${xml(tcp?.host ?? '127.0.0.1')}' port='${tcp?.port ?? 10809}'/>`;
    const tls = access.export.uri.startsWith('nbds') ? " tls='yes'" : '';
    lines.push(`  <source protocol='nbd' name='${xml(name)}'${tls}>`, `    ${host}`, `    <reconnect delay='${RECONNECT_DELAY}'/>`, '  </source>');
  }
  if (readOnly) lines.push('  <readonly/>');
  lines.push(`  <target dev='${xml(target)}' bus='virtio'/>`, '</disk>');
  return lines.join('\n');
}

function imgLines(access: DiskAccess): string[] {
  if (access.kind === 'file') return [`qemu-img info -f raw ${shellQuote(access.path)}`, `qemu-img convert -p -t none -T none -f raw -O qcow2 ${shellQuote(access.path)} copy.qcow2`];
  const uri = shellQuote(access.export.uri);
  return [`qemu-img info -f raw ${uri}`, `qemu-img map -f raw --output=json ${uri}`, `qemu-img convert -p -n -t none -T none -f qcow2 -O raw image.qcow2 ${uri}`, `qemu-img convert -p -f raw -O qcow2 ${uri} copy.qcow2`];
}

/** Quoted for a POSIX shell where it needs to be. */
function shellQuote(text: string): string {
  return /^[A-Za-z0-9_/:=.,@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function xml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll("'", '&apos;');
}
