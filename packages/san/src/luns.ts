/**
 * LUNs, each once: the paths of a multipath map folded into it, paths that share a WWID and have no map folded together.
 *
 * What sysfs shows decides (which disk stands on which); multipathd adds what only it knows (what its checker found, how long the map
 * queues). So all of this works without multipathd, and a map that it does not know is seen.
 */
import { statSync } from 'node:fs';
import path from 'node:path';
import { ClusterError, UsageError, deviceNumber } from '@lunfs/device';
import { type Disk, type PathTimes, type Transport, mappedPartitions, readDisks } from './blocks.js';
import { type Finding, error, warning } from './findings.js';
import { type SanHost, byNumber } from './host.js';
import { type MultipathMap, type Multipathd, type Queueing, askMultipathd } from './multipathd.js';
import { isUnstableName, stableLinks, stableName } from './names.js';
import { type Use, type Users, displayName, readUsers, usesOf } from './use.js';

export interface LunPath {
  readonly kernelName: string;
  readonly hctl?: string;
  /** The kernel's: `running`, `offline`, `blocked`… */
  readonly state?: string;
  readonly transport?: Transport;
  readonly target?: string;
  readonly size: number;
  /** Part of the LUN's map. */
  readonly inMap: boolean;
  /** The multipath target's word, and the checker's; undefined when multipathd does not say. */
  readonly mapState?: string;
  readonly checked?: string;
  /** Group of the map, from 1: those of one group are used together. */
  readonly group?: number;
  readonly priority?: number;
  readonly times: PathTimes;
}

export interface LunMap {
  readonly name: string;
  readonly kernelName: string;
  readonly size: number;
  readonly suspended: boolean;
  /** What only multipathd knows; undefined when it does not run, or does not know the map. */
  readonly policy?: { readonly selectors: readonly string[]; readonly queueing: Queueing; readonly features: string; readonly hardwareHandler: string };
}

export interface Lun {
  /** The name to use it by: its map, else a link of /dev/disk/by-id, else the kernel's name. */
  readonly device: string;
  readonly kernelName: string;
  /** Device number of `kernelName`, `254:3`. */
  readonly number: string;
  /** As multipath writes it, `36001405…`; undefined where the device has none. */
  readonly wwid?: string;
  readonly serial?: string;
  readonly vendor?: string;
  readonly model?: string;
  readonly revision?: string;
  /** Bytes, of the map if there is one. */
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly readOnly: boolean;
  /** Of a loop device, which is no LUN but can play one. */
  readonly backingFile?: string;
  readonly map?: LunMap;
  readonly paths: readonly LunPath[];
  readonly partitions: readonly { readonly device: string; readonly size: number }[];
  readonly uses: readonly Use[];
  readonly findings: readonly Finding[];
}

/** All that was read of a host, at one time. */
export interface SanView {
  readonly disks: ReadonlyMap<string, Disk>;
  readonly users: Users;
  readonly multipathd?: Multipathd;
  readonly links: ReadonlyMap<string, readonly string[]>;
}

export async function viewOf(host: SanHost): Promise<SanView> {
  const multipathd = await askMultipathd(host);
  return { disks: readDisks(host), users: readUsers(host), multipathd, links: stableLinks(host) };
}

/** Never a LUN: memory, drives for removable media, what is made of other devices, and what somebody makes of a file or a network. */
const NO_LUN = /^(?:ram|zram|sr|fd|md|dm-|loop|nbd|drbd|rbd|bcache|mtdblock)/;

/** Every LUN and local disk of the host. */
export function lunsOf(view: SanView): Lun[] {
  const maps = [...view.disks.values()].filter(isMap);
  const taken = new Set<string>(maps.map(({ kernelName }) => kernelName));
  const luns = maps.map((map) => {
    const paths = pathsOf(map, view.disks);
    for (const one of paths) taken.add(one.kernelName);
    return lun(map, paths, view);
  });
  for (const disk of view.disks.values()) {
    if (taken.has(disk.kernelName) || NO_LUN.test(disk.kernelName) || disk.size === 0) continue;
    const paths = siblings(disk, view.disks).filter(({ kernelName }) => !taken.has(kernelName));
    for (const one of paths) taken.add(one.kernelName);
    luns.push(lun(disk, paths, view));
  }
  return luns.sort((a, b) => Number(b.map !== undefined) - Number(a.map !== undefined) || byNumber(a.kernelName, b.kernelName));
}

/** Which device somebody means, and the LUN that it is or is part of. */
export interface FoundLun {
  readonly lun: Lun;
  /** Kernel name of what was named: the LUN's own, one of its paths, or a partition. */
  readonly kernelName: string;
  /** It is one path of the LUN's map. */
  readonly isPath: boolean;
  readonly isPartition: boolean;
  /** Which partition, from 1. */
  readonly partition?: number;
}

/** The LUN of a device by any of its names; loop devices and the like are found, too. Throws DEVICE_MISSING, DEVICE_NOT_A_LUN. */
export function findLun(view: SanView, device: string): FoundLun {
  const stats = statSync(device, { throwIfNoEntry: false });
  if (stats === undefined) throw new UsageError('DEVICE_MISSING', 'ENOENT', `${device} does not exist. "lunfs lun list" shows the LUNs of this host; "lunfs lun rescan" looks for new ones`, { device });
  if (!stats.isBlockDevice()) throw new UsageError('DEVICE_NOT_A_LUN', 'ENOTTY', `${device} is no block device: this command is about LUNs`, { device });
  const { major, minor } = deviceNumber(stats.rdev);
  return findByNumber(view, device, `${major}:${minor}`);
}

/** The same by device number. */
export function findByNumber(view: SanView, device: string, number: string): FoundLun {
  const disks = [...view.disks.values()];
  const whole = disks.find((disk) => disk.number === number);
  const holder = whole ?? disks.find((disk) => disk.partitions.some((part) => part.number === number));
  if (holder === undefined) throw new UsageError('DEVICE_NOT_A_LUN', 'ENODEV', `${device} (${number}) is not in sysfs: was it removed just now?`, { device, number });
  const part = whole === undefined ? holder.partitions.find((one) => one.number === number) : undefined;
  // A map of a partition stands on the map of the disk.
  const below = whole?.mapper?.uuid.startsWith('part') ? view.disks.get(whole.slaves[0] ?? '') : undefined;
  const base = below ?? holder;
  const map = isMap(base) ? base : mapAbove(base, view.disks);
  const isPath = map !== undefined && map !== base;
  const top = map ?? base;
  const paths = isMap(top) ? pathsOf(top, view.disks) : NO_LUN.test(top.kernelName) ? [top] : siblings(top, view.disks);
  // kpartx: `part1-mpath-…`.
  const mapped = below === undefined ? undefined : Number(/^part(\d{1,4})-/.exec(whole?.mapper?.uuid ?? '')?.[1] ?? Number.NaN) || undefined;
  return { lun: lun(top, paths, view), kernelName: part?.kernelName ?? holder.kernelName, isPath, isPartition: part !== undefined || below !== undefined, partition: part?.index ?? mapped };
}

function isMap({ mapper }: Disk): boolean {
  return mapper?.uuid.startsWith('mpath-') ?? false;
}

function mapAbove(disk: Disk, disks: ReadonlyMap<string, Disk>): Disk | undefined {
  return disk.holders.map((name) => disks.get(name)).find((one) => one !== undefined && isMap(one));
}

/** The paths of a map, and disks with their WWID that should be among them. */
function pathsOf(map: Disk, disks: ReadonlyMap<string, Disk>): Disk[] {
  const members = map.slaves.flatMap((name) => disks.get(name) ?? []);
  const wwids = new Set(members.flatMap(({ wwid }) => wwid ?? []));
  const outside = [...disks.values()].filter((disk) => disk.wwid !== undefined && (wwids.has(disk.wwid) || multipathWwid(disk.wwid) === map.mapper?.uuid.slice('mpath-'.length)) && !members.includes(disk) && mapAbove(disk, disks) === undefined);
  return [...members, ...outside].sort((a, b) => byNumber(a.kernelName, b.kernelName));
}

/** SCSI disks of one WWID without a map, the disk itself among them. */
function siblings(disk: Disk, disks: ReadonlyMap<string, Disk>): Disk[] {
  if (disk.wwid === undefined || disk.hctl === undefined) return [disk];
  return [...disks.values()].filter((one) => one.wwid === disk.wwid && one.hctl !== undefined && mapAbove(one, disks) === undefined);
}

/** A designator of sysfs as multipath (scsi_id) writes it: the number of its type before it, blanks as underscores. */
export function multipathWwid(wwid: string): string {
  const match = /^(naa|eui|t10)\.(.*)$/.exec(wwid);
  if (!match) return wwid;
  return `${{ naa: '3', eui: '2', t10: '1' }[match[1] as 'naa' | 'eui' | 't10']}${match[2].replace(/\s+/g, '_')}`;
}

function lun(top: Disk, disks: readonly Disk[], view: SanView): Lun {
  const known = view.multipathd?.maps.find(({ kernelName, name }) => kernelName === top.kernelName && name === top.mapper?.name);
  const first = disks[0] ?? top;
  const map: LunMap | undefined = top.mapper !== undefined && isMap(top)
    ? { name: top.mapper.name, kernelName: top.kernelName, size: top.size, suspended: top.mapper.suspended, policy: known && { selectors: [...new Set(known.groups.map(({ selector }) => selector))], queueing: known.queueing, features: known.features, hardwareHandler: known.hardwareHandler } }
    : undefined;
  const paths = disks.filter(({ kernelName }) => !NO_LUN.test(kernelName)).map((disk) => lunPath(disk, map, top, known));
  // Of paths without a map each can have the links; all of them mean the LUN.
  const device = [top, ...disks].map((disk) => stableName(disk, view.links)).find((name) => name !== undefined) ?? displayName(top);
  const partMaps = mappedPartitions(top, view.disks);
  return {
    device, kernelName: top.kernelName, number: top.number, wwid: map !== undefined ? top.mapper?.uuid.slice('mpath-'.length) : first.wwid && multipathWwid(first.wwid),
    serial: first.serial, vendor: first.vendor, model: first.model, revision: first.revision,
    size: top.size, logicalBlockSize: top.logicalBlockSize, readOnly: top.readOnly, backingFile: top.backingFile, map, paths,
    partitions: partMaps.length > 0 ? partMaps.map((part) => ({ device: displayName(part), size: part.size })) : top.partitions.map((part) => ({ device: `/dev/${part.kernelName}`, size: part.size })),
    uses: allUses(top, disks, view), findings: findingsOf(device, map, paths, view.multipathd),
  };
}

function lunPath(disk: Disk, map: LunMap | undefined, top: Disk, known: MultipathMap | undefined): LunPath {
  const { kernelName, hctl, state, transport, target, size, times } = disk;
  const group = known?.groups.findIndex(({ paths }) => paths.some(({ device }) => device === kernelName)) ?? -1;
  const said = known?.groups[group]?.paths.find(({ device }) => device === kernelName);
  return {
    kernelName, hctl, state, transport, target, size, inMap: map !== undefined && top.slaves.includes(kernelName), times,
    mapState: said?.mapState, checked: said?.checked, group: group < 0 ? undefined : group + 1, priority: said?.priority,
  };
}

/** Of the LUN and of each path beside its map, which can be in use by itself (partitions that the kernel found on it, say). */
function allUses(top: Disk, disks: readonly Disk[], view: SanView): Use[] {
  const uses = [top, ...disks.filter((disk) => disk !== top)].flatMap((disk) => usesOf(disk, view.disks, view.users));
  return uses.filter((use, i) => uses.findIndex((other) => other.device === use.device && other.text === use.text) === i);
}

/** A path that carries requests now. */
function works(one: LunPath): boolean {
  return (one.state === undefined || one.state === 'running' || one.state === 'live') && one.mapState !== 'failed';
}

function findingsOf(device: string, map: LunMap | undefined, paths: readonly LunPath[], multipathd: Multipathd | undefined): Finding[] {
  const found: Finding[] = [];
  const names = (of: readonly LunPath[]): string => of.map(({ kernelName }) => kernelName).join(', ');
  if (map === undefined && paths.length > 1) {
    found.push(error('MAP_MISSING', `${names(paths)} are paths of one LUN, and there is no multipath map over them: the loss of one path would be the loss of the LUN. ${multipathd === undefined ? 'Start multipathd' : `Have multipathd take them (multipath -a /dev/${paths[0].kernelName}; multipathd reconfigure)`}, and use /dev/mapper/NAME`));
  }
  if (map !== undefined) {
    const outside = paths.filter(({ inMap }) => !inMap);
    if (outside.length > 0) found.push(error('PATH_OUTSIDE_MAP', `${names(outside)} lead to the LUN of ${device} but are not in its map, so somebody could write past it: multipathd add path ${outside[0].kernelName}`));
    if (map.suspended) found.push(error('MAP_SUSPENDED', `${device} is suspended, requests to it wait: dmsetup resume ${map.name}, unless somebody is changing it just now`));
    if (multipathd === undefined) found.push(warning('NO_MULTIPATHD', `multipathd does not answer: nobody checks the paths of ${device}, and one that fails does not come back. Start it: systemctl start multipathd`));
    if (!paths.some((one) => one.inMap && works(one))) found.push(error('NO_PATH', `${device} has no path that works: zoning, cables and the array are where to look (multipath -ll ${map.name})`));
  }
  const down = paths.filter((one) => !works(one));
  if (down.length > 0 && down.length < paths.length) found.push(warning('PATH_DOWN', `${down.map((one) => `${one.kernelName} (${one.state !== 'running' && one.state !== undefined ? one.state : (one.checked ?? 'failed')})`).join(', ')} of ${device}: a path is down`));
  const sizes = new Map<number, string[]>();
  for (const [name, size] of [...paths.map((one) => [one.kernelName, one.size] as const), ...(map === undefined ? [] : [[map.name, map.size] as const])]) sizes.set(size, [...(sizes.get(size) ?? []), name]);
  if (sizes.size > 1) {
    const text = [...sizes].map(([size, who]) => `${who.join(', ')}: ${size} bytes`).join('; ');
    found.push(error('PATH_SIZE', `paths and map of ${device} do not agree on its size (${text}): lunfs lun rescan ${device}`));
  }
  return found;
}

/** What is wrong with using a LUN by this name, beside what is wrong with the LUN: a path instead of the map, a name of one boot. */
export function nameFindings(device: string, found: FoundLun): Finding[] {
  if (found.isPath && found.lun.map !== undefined) return [error('DEVICE_HELD', `${device} is one path of the multipath map ${found.lun.map.name}. Use ${found.lun.device}`)];
  if (!isUnstableName(path.resolve(device))) return [];
  const better = found.isPartition ? undefined : found.lun.device;
  return [warning('NAME_UNSTABLE', `${device} can be another LUN after the next boot: write ${better !== undefined && !isUnstableName(better) ? better : 'a name of /dev/mapper or /dev/disk/by-id'} where a name is kept`)];
}

/** Throws the first error of those that make a LUN unfit to carry a volume, by its code. A path of a map is refused by whoever opens it for writing (DEVICE_HELD); image files and all that is no LUN pass. */
export async function refuseUnfit(host: SanHost, device: string): Promise<void> {
  if (!(statSync(device, { throwIfNoEntry: false })?.isBlockDevice() ?? false)) return;
  const { lun: found } = findLun(await viewOf(host), device);
  const bad = found.findings.find(({ severity }) => severity === 'error');
  if (bad !== undefined) throw new ClusterError(bad.code, bad.text, { device });
}
