/** The system files of a volume, found by name in the system directory (ondisk-format.md 3: numbers are never computed). */
import { CorruptionError } from '@lunfs/device';
import type { SystemFiles } from '../context.js';
import { type SlotFile, SYSTEM_FILES, slotFileName } from '../format/constants.js';
import { quotaTypes } from '../format/quota.js';
import type { RawReader } from './raw-reader.js';

/** Every entry of the system directory by name. */
export async function systemFileNames(reader: RawReader): Promise<Map<string, number>> {
  const dir = await reader.inode(reader.geo.systemDirBlkno);
  const names = new Map<string, number>();
  for (const { name, inode } of await reader.entries(dir)) names.set(Buffer.from(name).toString('latin1'), inode);
  return names;
}

/** The system files a mount needs. Throws SYSTEM_FILE_MISSING by name. */
export async function readSystemFiles(reader: RawReader): Promise<SystemFiles> {
  const { geo } = reader;
  const names = await systemFileNames(reader);
  const get = (name: string): number => {
    const blkno = names.get(name);
    if (blkno === undefined || blkno <= 2 || blkno >= geo.totalBlocks) {
      throw new CorruptionError('SYSTEM_FILE_MISSING', `${geo.device}: system file "${name}" is missing from the system directory (block ${geo.systemDirBlkno}); run fsck.ocfs2`, { device: geo.device, name });
    }
    return blkno;
  };
  const perSlot = (type: SlotFile): number[] => Array.from({ length: geo.maxSlots }, (_, slot) => get(slotFileName(type, slot)));
  return {
    globalInodeAlloc: get(SYSTEM_FILES.globalInodeAlloc), slotMap: get(SYSTEM_FILES.slotMap), heartbeat: get(SYSTEM_FILES.heartbeat),
    globalBitmap: get(SYSTEM_FILES.globalBitmap),
    orphanDir: perSlot('orphanDir'), extentAlloc: perSlot('extentAlloc'), inodeAlloc: perSlot('inodeAlloc'), journal: perSlot('journal'),
    localAlloc: perSlot('localAlloc'), truncateLog: perSlot('truncateLog'),
    quota: quotaTypes(geo).map((type) => (type === 'user'
      ? { type, global: get(SYSTEM_FILES.userQuota), local: perSlot('localUserQuota') }
      : { type, global: get(SYSTEM_FILES.groupQuota), local: perSlot('localGroupQuota') })),
  };
}
