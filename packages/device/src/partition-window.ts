/** A byte range of a device as a device of its own: a partition, or a region that one component may touch and no other. */
import type { BlockDevice, BufferPool } from './block-device.js';
import { UsageError } from './errors.js';
import { checkRange, checkWritable } from './range-check.js';

/** Owns nothing: closing a window leaves its device open, for the device may have other windows. */
export class PartitionWindow implements BlockDevice {
  readonly name: string;
  readonly device: BlockDevice;
  /** Where the window begins on its device, bytes: what to add to an offset for I/O on the device's own descriptor. */
  readonly start: number;
  readonly size: number;
  readonly readOnly: boolean;

  /** `start` and `size` are bytes in whole logical blocks, inside the device (else DEVICE_WINDOW). */
  constructor(device: BlockDevice, start: number, size: number, options: { name?: string; readOnly?: boolean } = {}) {
    const unit = device.logicalBlockSize;
    const whole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value % unit === 0;
    if (!whole(start) || !whole(size) || start + size > device.size) {
      throw new UsageError(
        'DEVICE_WINDOW',
        'EINVAL',
        `${device.name}: no window of ${size} bytes at byte ${start}: it must be whole blocks of ${unit} inside its ${device.size} bytes`,
        {
          device: device.name,
          start,
          size,
        },
      );
    }
    this.device = device;
    this.start = start;
    this.size = size;
    this.name = options.name ?? `${device.name}[${start}+${size}]`;
    this.readOnly = options.readOnly ?? device.readOnly;
  }

  get logicalBlockSize(): number {
    return this.device.logicalBlockSize;
  }
  get canDiscard(): boolean {
    return this.device.canDiscard;
  }
  get pool(): BufferPool | undefined {
    return this.device.pool;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    checkRange(this, offset, into.length);
    await this.device.read(this.start + offset, into);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    checkRange(this, offset, from.length);
    await this.device.write(this.start + offset, from);
  }

  flush(): Promise<void> {
    return this.device.flush();
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offset, length);
    await this.device.writeZeroes(this.start + offset, length);
  }

  async discard(offset: number, length: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offset, length);
    await this.device.discard(this.start + offset, length);
  }

  async close(): Promise<void> {}
}
