/**
 * Changing the superblock. It is not journaled: the block and its backups are written in place (Linux 6.1
 * fs/ocfs2/buffer_head_io.c:ocfs2_write_super_or_backup). One block is written atomically by the device; the backups
 * follow, so that a crash in between leaves the truth in block 2 and older copies behind it.
 */
import type { BlockDevice } from '@lunfs/device';
import { Block } from '../format/block.js';
import { stampCheck } from '../format/blockcheck.js';
import { SUPER_BLOCK_BLKNO } from '../format/constants.js';
import { type Geometry, backupBlocks, hasBackups, parseSuperBlock } from '../format/geometry.js';
import { Dinode, type DinodeView, SuperBlock, type SuperBlockView } from '../format/structs.js';

/** Byte of its i_check. */
export const SUPER_BLOCK_CHECK_AT = 0x80;

/** Read the superblock, let `change` edit it, write it and its backups, flush. Returns the new geometry. */
export async function updateSuperBlock(device: BlockDevice, geo: Geometry, change: (sb: SuperBlockView, di: DinodeView) => void): Promise<Geometry> {
  const bytes = new Uint8Array(geo.blockSize);
  await device.read(SUPER_BLOCK_BLKNO * geo.blockSize, bytes);
  const block = new Block(geo.device, SUPER_BLOCK_BLKNO, bytes);
  parseSuperBlock(block);
  change(SuperBlock.at(block), Dinode.at(block));
  if (geo.metaecc) stampCheck(bytes, SUPER_BLOCK_CHECK_AT);
  const changed = parseSuperBlock(block);
  await device.write(SUPER_BLOCK_BLKNO * geo.blockSize, bytes);
  await device.flush();
  if (hasBackups(geo)) {
    for (const blkno of backupBlocks(changed)) {
      const copy = new Block(geo.device, blkno, bytes.slice());
      Dinode.at(copy).blkno = blkno;
      if (geo.metaecc) stampCheck(copy.bytes, SUPER_BLOCK_CHECK_AT);
      await device.write(blkno * geo.blockSize, copy.bytes);
    }
    await device.flush();
  }
  return changed;
}
