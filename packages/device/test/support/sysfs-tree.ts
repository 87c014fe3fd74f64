import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A sysfs with a LUN (sda, 8:0) of one partition (sda1, 8:1) that is a path of the multipath map mpatha (dm-0, 253:0). */
export function layOut(root: string, holder = { name: 'mpatha', uuid: 'mpath-3600' }): string {
  const attributes: Record<string, string> = {
    'devices/pci/sda/size': '2048',
    'devices/pci/sda/dev': '8:0',
    'devices/pci/sda/ro': '0',
    'devices/pci/sda/queue/logical_block_size': '4096',
    'devices/pci/sda/queue/physical_block_size': '4096',
    'devices/pci/sda/queue/rotational': '1',
    'devices/pci/sda/queue/discard_granularity': '4096',
    'devices/pci/sda/queue/discard_max_bytes': String(1 << 20),
    'devices/pci/sda/queue/write_zeroes_max_bytes': '0',
    'devices/pci/sda/device/vendor': 'VENDOR  ',
    'devices/pci/sda/device/model': 'LUN 9000        ',
    'devices/pci/sda/sda1/size': '1024',
    'devices/pci/sda/sda1/dev': '8:1',
    'devices/pci/sda/sda1/partition': '1',
    'devices/pci/sda/sda1/ro': '0',
    'devices/virtual/dm-0/size': '2048',
    'devices/virtual/dm-0/dev': '253:0',
    'devices/virtual/dm-0/dm/name': holder.name,
    'devices/virtual/dm-0/dm/uuid': holder.uuid,
  };
  for (const [path, text] of Object.entries(attributes)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  for (const path of ['dev/block', 'devices/pci/sda/holders', 'devices/pci/sda/sda1/holders'])
    mkdirSync(join(root, path), { recursive: true });
  symlinkSync('../../../virtual/dm-0', join(root, 'devices/pci/sda/holders/dm-0'));
  symlinkSync('../../devices/pci/sda', join(root, 'dev/block/8:0'));
  symlinkSync('../../devices/pci/sda/sda1', join(root, 'dev/block/8:1'));
  symlinkSync('../../devices/virtual/dm-0', join(root, 'dev/block/253:0'));
  return root;
}
