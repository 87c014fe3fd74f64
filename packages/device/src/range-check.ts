/** The checks every device makes before it touches its medium, so that all of them refuse alike. */
import type { BlockDevice } from './block-device.js';
import { IoError } from './errors.js';

/**
 * Throws DEVICE_UNALIGNED or DEVICE_RANGE unless [offset, offset+length) can be asked of the device. Before it says that the device
 * ends earlier it looks again: a LUN may have been enlarged under an open descriptor.
 */
export function checkRange(device: BlockDevice, offset: number, length: number): void {
  const unit = device.logicalBlockSize;
  if (offset % unit !== 0 || length % unit !== 0) {
    throw new IoError(
      'DEVICE_UNALIGNED',
      `${device.name}: request at byte ${offset} of ${length} bytes is not in whole blocks of ${unit}`,
      { device: device.name, offset, length },
      undefined,
      'EINVAL',
    );
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || !reaches(device, offset + length)) {
    throw new IoError(
      'DEVICE_RANGE',
      `${device.name}: request at byte ${offset} of ${length} bytes is outside the device (${device.size} bytes). If the LUN has been enlarged, this host has still to see it: rescan it here`,
      { device: device.name, offset, length },
      undefined,
      'EINVAL',
    );
  }
}

function reaches(device: BlockDevice, end: number): boolean {
  return end <= device.size || end <= (device.refreshSize?.() ?? device.size);
}

/** Throws DEVICE_READ_ONLY if the device was opened for reading. */
export function checkWritable(device: BlockDevice): void {
  if (device.readOnly)
    throw new IoError('DEVICE_READ_ONLY', `${device.name} was opened read-only`, { device: device.name }, undefined, 'EROFS');
}
