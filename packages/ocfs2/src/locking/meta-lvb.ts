/**
 * The value block of an inode's meta lock: what the last EX holder knew of the inode, so that the next one need not read
 * it (cluster-protocols.md 7.2; Linux 6.1 fs/ocfs2/dlmglue.c:__ocfs2_stuff_meta_lvb). Big-endian, unlike the disk.
 */
import { Block, BE, struct } from '../format/block.js';
import { DYN } from '../format/constants.js';
import type { DinodeView } from '../format/structs.js';
import { LVB_SIZE } from './dlm.js';

/** lvb_version of a valid value; 0 sends everybody to the disk. */
export const META_LVB_VERSION = 5;

export const MetaLvb = struct('meta_lvb', LVB_SIZE, {
  version: BE.u8(0), dynFeatures: BE.u16(2), clusters: BE.u32(4), uid: BE.u32(8), gid: BE.u32(12), atime: BE.big(16), ctime: BE.big(24),
  mtime: BE.big(32), size: BE.u64(40), mode: BE.u16(48), links: BE.u16(50), attr: BE.u32(52), generation: BE.u32(56),
});

/** Seconds in 34 bits (clamped), nanoseconds in 30. */
function packTime(sec: number, nsec: number): bigint {
  return (BigInt(Math.max(0, Math.min(sec, 2 ** 34 - 1))) << 30n) | BigInt(nsec);
}

/** What a valid value says of an inode. Times as whole seconds and nanoseconds; links modulo 65536. */
export interface MetaValue {
  readonly dynFeatures: number;
  readonly clusters: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mode: number;
  readonly links: number;
  readonly attr: number;
  readonly generation: number;
  readonly atime: PackedTime;
  readonly ctime: PackedTime;
  readonly mtime: PackedTime;
}

export interface PackedTime {
  readonly sec: number;
  readonly nsec: number;
}

function unpackTime(packed: bigint): PackedTime {
  return { sec: Number(packed >> 30n), nsec: Number(packed & 0x3fff_ffffn) };
}

/** Undefined: there is no valid value, the disk must be asked. Whether it is of the inode one means, its generation tells. */
export function decodeMetaLvb(bytes: Uint8Array): MetaValue | undefined {
  const lvb = MetaLvb.at(new Block('', 0, bytes));
  if (lvb.version !== META_LVB_VERSION) return undefined;
  const { dynFeatures, clusters, uid, gid, size, mode, links, attr, generation } = lvb;
  const [atime, ctime, mtime] = [lvb.atime, lvb.ctime, lvb.mtime].map(unpackTime);
  if ([atime, ctime, mtime].some(({ nsec }) => nsec >= 1e9) || !Number.isSafeInteger(size)) return undefined;
  return { dynFeatures, clusters, uid, gid, size, mode, links, attr, generation, atime, ctime, mtime };
}

/** The value for this dinode; undefined where it could not say everything (its link count has 16 bits). */
export function encodeMetaLvb(di: DinodeView): Uint8Array | undefined {
  if (di.dynFeatures & DYN.INDEXED_DIR && di.linksHi !== 0) return undefined;
  const bytes = new Uint8Array(LVB_SIZE);
  const lvb = MetaLvb.at(new Block('', 0, bytes));
  lvb.version = META_LVB_VERSION;
  lvb.dynFeatures = di.dynFeatures;
  lvb.clusters = di.clusters;
  lvb.uid = di.uid;
  lvb.gid = di.gid;
  lvb.atime = packTime(di.atime, di.atimeNsec);
  lvb.ctime = packTime(di.ctime, di.ctimeNsec);
  lvb.mtime = packTime(di.mtime, di.mtimeNsec);
  lvb.size = di.size;
  lvb.mode = di.mode;
  lvb.links = di.links;
  lvb.attr = di.attr;
  lvb.generation = di.generation;
  return bytes;
}
