/**
 * A LUN that grew on its array, seen by this host: every path asks for the capacity again, the multipath map takes it over, a loop device its file's.
 *
 * The kernel changes the size of a SCSI disk when it is asked (`device/rescan`: READ CAPACITY), and that of a map when multipathd loads a new table (`resize map`), which
 * it refuses while its paths do not agree. So: all paths first, then wait until all say the same, then the map. Nothing is written to any disk. A path that does not
 * answer hangs in the kernel; the writes to sysfs are therefore done by a program, which is left alone when its time is up.
 */
import { IoError } from '@lunfs/device';
import { monotonicMs, pause } from './clock.js';
import { type SanHost, attributeNumber, kernelNames, printable } from './host.js';
import { type Lun, findByNumber, viewOf } from './luns.js';

export interface Rescanned {
  readonly device: string;
  /** Bytes: what the LUN, its paths and its map said before and say now. */
  readonly before: number;
  readonly after: number;
  readonly paths: readonly { readonly kernelName: string; readonly before: number; readonly after: number }[];
}

export interface RescanOptions {
  /** How long paths may take to agree. Default 30 s. */
  readonly timeoutMs?: number;
  /** Told while paths do not agree. */
  readonly waiting?: (sizes: readonly { readonly kernelName: string; readonly size: number }[]) => void;
}

const POLL_MS = 200;
/** For one path to answer READ CAPACITY: paths answer in milliseconds, or when the transport gives up. */
const PATH_MS = 15_000;

/** All of a LUN's paths, its map or its loop device. Errors: RESCAN_LOOP, PATH_SIZE (paths do not agree in time), MAP_RESIZE, MULTIPATHD_ANSWER. */
export async function rescanLun(host: SanHost, lun: Lun, options: RescanOptions = {}): Promise<Rescanned> {
  const before = new Map(lun.paths.map(({ kernelName, size }) => [kernelName, size]));
  if (lun.backingFile !== undefined) await must(host, 'RESCAN_LOOP', lun.device, 'losetup', ['-c', `/dev/${lun.kernelName}`]);
  const unheard = (await Promise.all(lun.paths.map(async ({ kernelName }) => ((await rescanPath(host, kernelName)) ? [] : [kernelName])))).flat();
  const size = await agreement(host, lun, unheard, options);
  if (lun.map !== undefined && size !== undefined && sizeOf(host, lun.map.kernelName) !== size) await resizeMap(host, lun, lun.map.name, size, options.timeoutMs);
  const now = findByNumber(await viewOf(host), lun.device, lun.number).lun;
  return { device: lun.device, before: lun.size, after: now.size, paths: now.paths.map((one) => ({ kernelName: one.kernelName, before: before.get(one.kernelName) ?? one.size, after: one.size })) };
}

/** Hosts look for LUNs that they do not know yet. Returns the names of the hosts (`host3`) that were asked. */
export async function scanHosts(host: SanHost): Promise<string[]> {
  const names = kernelNames(host.sys, 'class/scsi_host').filter((name) => /^host\d+$/.test(name));
  // Three dashes: every channel, target and LUN (Linux 6.1 drivers/scsi/scsi_sysfs.c:store_scan).
  const asked = await Promise.all(names.map(async (name) => ((await write(host, `${host.sys}/class/scsi_host/${name}/scan`, '- - -')) ? [name] : [])));
  // New disks are announced by udev, and multipathd makes their maps then.
  await host.run('udevadm', ['settle', '--timeout=20'], 25_000);
  return asked.flat();
}

/** False: the path did not take it (it is gone, it is offline, or it does not answer). Disks that are not SCSI tell of a new size by themselves. */
async function rescanPath(host: SanHost, kernelName: string): Promise<boolean> {
  const file = `${host.sys}/block/${kernelName}/device/rescan`;
  return attributeNumber(host.sys, 'block', kernelName, 'size') !== undefined && (!kernelName.startsWith('sd') || (await write(host, file, '1')));
}

async function write(host: SanHost, file: string, text: string): Promise<boolean> {
  const { status } = await host.run('sh', ['-c', 'printf %s "$2" > "$1"', 'rescan', file, text], PATH_MS);
  return status === 0;
}

/** The size on which all paths agree; undefined for a LUN without paths (a loop device). */
async function agreement(host: SanHost, lun: Lun, unheard: readonly string[], { timeoutMs = 30_000, waiting }: RescanOptions): Promise<number | undefined> {
  const names = lun.paths.map(({ kernelName }) => kernelName);
  const until = monotonicMs() + timeoutMs;
  for (;;) {
    const sizes = names.map((kernelName) => ({ kernelName, size: sizeOf(host, kernelName) ?? 0 }));
    const different = new Set(sizes.map(({ size }) => size));
    if (different.size <= 1) return sizes[0]?.size;
    if (monotonicMs() >= until) throw disagreement(lun, sizes, unheard);
    waiting?.(sizes);
    await pause(POLL_MS);
    // The array may tell one path before another: ask those that lag again.
    const most = Math.max(...different);
    for (const { kernelName, size } of sizes) if (size !== most) await rescanPath(host, kernelName);
  }
}

function disagreement(lun: Lun, sizes: readonly { readonly kernelName: string; readonly size: number }[], unheard: readonly string[]): IoError {
  const most = Math.max(...sizes.map(({ size }) => size));
  const lagging = sizes.filter(({ size }) => size !== most);
  const what = lagging.map(({ kernelName, size }) => {
    const hctl = lun.paths.find((one) => one.kernelName === kernelName)?.hctl;
    return `${kernelName}${hctl === undefined ? '' : ` (${hctl})`} says ${size} bytes${unheard.includes(kernelName) ? ' and did not take the rescan' : ''}`;
  }).join(', ');
  return new IoError('PATH_SIZE', `the paths of ${lun.device} do not agree on its size: ${what}; the others say ${most}. The map was left as it is. Repair or remove the path (echo 1 > /sys/block/${lagging[0].kernelName}/device/delete), then run this again`, { device: lun.device, paths: lagging.map(({ kernelName }) => kernelName).join(','), size: most });
}

async function resizeMap(host: SanHost, lun: Lun, name: string, size: number, timeoutMs = 30_000): Promise<void> {
  const kernelName = lun.map?.kernelName ?? lun.kernelName;
  const { missing, stdout, stderr } = await host.run('multipathd', ['resize', 'map', name], 60_000);
  // It answers "ok" or "fail" with status 0 (multipath-tools multipathd/cli_handlers.c), and the new table is in force when it has answered.
  const until = monotonicMs() + timeoutMs;
  while (stdout.trim() === 'ok' && sizeOf(host, kernelName) !== size && monotonicMs() < until) await pause(POLL_MS);
  if (sizeOf(host, kernelName) === size) return;
  const said = missing ? 'it is not installed' : printable(`${stdout} ${stderr}`, 200) || 'nothing';
  throw new IoError('MAP_RESIZE', `all paths of ${lun.device} say ${size} bytes, but its map stays at ${sizeOf(host, kernelName) ?? 'no size'}: multipathd resize map ${name} said "${said}". See multipathd's log, and run this again`, { device: lun.device, map: name, size });
}

async function must(host: SanHost, code: string, device: string, program: string, args: readonly string[]): Promise<void> {
  const { missing, status, stderr } = await host.run(program, args);
  if (status !== 0) throw new IoError(code, `${device}: ${program} ${args.join(' ')} failed: ${missing ? 'it is not installed' : stderr || `status ${status}`}`, { device });
}

function sizeOf(host: SanHost, kernelName: string): number | undefined {
  const sectors = attributeNumber(host.sys, 'block', kernelName, 'size');
  return sectors === undefined ? undefined : sectors * 512;
}
