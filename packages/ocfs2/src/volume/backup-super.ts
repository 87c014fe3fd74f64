/**
 * Backup superblocks (ondisk-format.md 11.2): reading a volume by one of them, and putting one in the place of a superblock
 * that is gone. The copies lie at 1, 4, 16, 64, 256 and 1024 GiB and differ from the superblock in i_blkno (and checksum) only.
 *
 * A reader that is to trust a copy sees the device through `backupView`, which shows the copy as block 2; so everything that
 * reads a volume works with a copy without knowing it.
 */
import { type BlockDevice, CorruptionError, UsageError } from '@lunfs/device';
import { Block } from '../format/block.js';
import { stampCheck } from '../format/blockcheck.js';
import { BACKUP_SUPER_OFFSETS, MAX_BLOCK_SIZE, MIN_BLOCK_SIZE, SIG, SUPER_BLOCK_BLKNO } from '../format/constants.js';
import { type Geometry, parseSuperBlock } from '../format/geometry.js';
import { Dinode } from '../format/structs.js';
import { OverlayDevice } from './replay-overlay.js';
import { SUPER_BLOCK_CHECK_AT } from './superblock.js';

export interface BackupSuper {
  /** 1 to 6 if it lies where backups belong. */
  readonly number?: number;
  readonly blkno: number;
  /** What the copy says of the volume. */
  readonly geo: Geometry;
  /** The copy as it would lie in block 2. */
  readonly image: Uint8Array;
}

/** Numbers up to this name a backup, larger ones a block. */
const BACKUPS = BACKUP_SUPER_OFFSETS.length;

/**
 * The backup superblock `which`: 1 to 6, or the number of a block that holds a copy. Throws NO_BACKUP_SUPER when there is
 * none, a corruption error when it is damaged.
 */
export async function readBackupSuper(device: BlockDevice, which: number): Promise<BackupSuper> {
  for (let blockSize = MIN_BLOCK_SIZE; blockSize <= MAX_BLOCK_SIZE; blockSize *= 2) {
    const number = which <= BACKUPS ? which : undefined;
    const blkno = number === undefined ? which : BACKUP_SUPER_OFFSETS[number - 1] / blockSize;
    const found = await readCopy(device, blkno, blockSize);
    if (found !== undefined) return { number, ...found };
  }
  const place = which <= BACKUPS ? `byte ${BACKUP_SUPER_OFFSETS[which - 1]}` : `block ${which}`;
  throw new UsageError('NO_BACKUP_SUPER', 'EINVAL', `${device.name} has no backup superblock ${which}: nothing of the kind at ${place}; the others can be tried, 1 to ${BACKUPS}`, { device: device.name, which });
}

/** All backup superblocks of a device that can be read, in their order. */
export async function findBackupSupers(device: BlockDevice): Promise<BackupSuper[]> {
  const found: BackupSuper[] = [];
  for (let which = 1; which <= BACKUPS; which++) {
    try {
      found.push(await readBackupSuper(device, which));
    } catch (error) {
      if (!(error instanceof UsageError) && !(error instanceof CorruptionError)) throw error;
    }
  }
  return found;
}

async function readCopy(device: BlockDevice, blkno: number, blockSize: number): Promise<Omit<BackupSuper, 'number'> | undefined> {
  if (!Number.isSafeInteger(blkno) || blkno < 0 || (blkno + 1) * blockSize > device.size || blkno === SUPER_BLOCK_BLKNO) return undefined;
  const unit = Math.max(blockSize, device.logicalBlockSize);
  const at = blkno * blockSize, from = at - (at % unit);
  const bytes = new Uint8Array(unit);
  await device.read(from, bytes);
  const block = new Block(device.name, blkno, bytes.slice(at - from, at - from + blockSize));
  const di = Dinode.at(block);
  // A copy for another block size names another block; of one size only both agree.
  if (di.signature !== SIG.superBlock || di.blkno !== blkno) return undefined;
  const geo = parseSuperBlock(block, true);
  const image = block.bytes.slice();
  Dinode.at(new Block(device.name, SUPER_BLOCK_BLKNO, image)).blkno = SUPER_BLOCK_BLKNO;
  if (geo.metaecc) stampCheck(image, SUPER_BLOCK_CHECK_AT);
  return { blkno, geo, image };
}

/** The device with a backup in the place of the superblock. Nothing can be written through it. */
export function backupView(device: BlockDevice, backup: BackupSuper): BlockDevice {
  return new OverlayDevice(device, new Map([[SUPER_BLOCK_BLKNO, backup.image]]), backup.geo.blockSize);
}

/** Write a backup into block 2, durable when it resolves. Nobody may have the volume in use. */
export async function restoreSuperBlock(device: BlockDevice, { image, geo }: BackupSuper): Promise<void> {
  const { blockSize } = geo;
  const unit = Math.max(blockSize, device.logicalBlockSize);
  const at = SUPER_BLOCK_BLKNO * blockSize, from = at - (at % unit);
  const bytes = new Uint8Array(unit);
  if (unit > blockSize) await device.read(from, bytes);
  bytes.set(image, at - from);
  await device.write(from, bytes);
  await device.flush();
}
