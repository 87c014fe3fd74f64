/** The checks every device makes before it touches its medium, so that all of them refuse alike. */
import type { BlockDevice } from './block-device.js';
import { IoError } from './errors.js';

/** Throws DEVICE_UNALIGNED or DEVICE_RANGE unless [offset, offset+length) can be asked of the device. */
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
  if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > device.size) {
    throw new IoError(
      'DEVICE_RANGE',
      `${device.name}: request at byte ${offset} of ${length} bytes is outside the device (${device.size} bytes)`,
      { device: device.name, offset, length },
      undefined,
      'EINVAL',
    );
  }
}

/** Throws DEVICE_READ_ONLY if the device was opened for reading. */
export function checkWritable(device: BlockDevice): void {
  if (device.readOnly)
    throw new IoError('DEVICE_READ_ONLY', `${device.name} was opened read-only`, { device: device.name }, undefined, 'EROFS');
}
