/**
 * What is on a device beside a volume of ours: a table of magic numbers, and partition tables. Reads only; finds everything that matches, since leftovers of several owners
 * lie side by side on real LUNs. OCFS2 volumes are told apart by @lunfs/ocfs2 (`probeVolume`), whose job their superblock is. (Offsets as in util-linux libblkid/src/superblocks
 * and partitions.)
 */
import type { BlockDevice } from '@lunfs/device';
import { printable } from './host.js';

/** One thing found. */
export interface Signature {
  /** Stable short name, as blkid has it where it knows the thing: `LVM2_member`, `gpt`, `ext4`, `VMFS`... */
  readonly kind: string;
  /** For operators: what it is. */
  readonly text: string;
  readonly label?: string;
  readonly uuid?: string;
}

/** Bytes of a device, read once per 4 KiB page. */
class Pages {
  readonly #pages = new Map<number, Uint8Array>();
  constructor(readonly device: BlockDevice) {}

  /** Bytes at [at, at + length); zeros where the device ends. */
  async read(at: number, length: number): Promise<Buffer> {
    const out = Buffer.alloc(length);
    for (let done = 0; done < length; ) {
      const offset = at + done, within = offset % 4096;
      const n = Math.min(4096 - within, length - done);
      const page = await this.#page(offset - within);
      out.set(page.subarray(within, within + n), done);
      done += n;
    }
    return out;
  }

  async #page(offset: number): Promise<Uint8Array> {
    let page = this.#pages.get(offset);
    if (page === undefined) {
      page = new Uint8Array(4096);
      const length = Math.min(4096, this.device.size - offset);
      if (offset >= 0 && length > 0) await this.device.read(offset, page.subarray(0, length));
      this.#pages.set(offset, page);
    }
    return page;
  }
}

interface Magic {
  readonly kind: string;
  readonly text: string;
  /** Byte offset from the start, or from the end if negative. */
  readonly at: number;
  readonly magic: string | readonly number[];
  readonly label?: readonly [at: number, length: number];
  /** Byte offset of a 16-byte UUID. */
  readonly uuid?: number;
}

const KIB = 1024, MIB = 1024 * KIB;

const MAGICS: readonly Magic[] = [
  ...[0, 512, 1024, 1536].map((at): Magic => ({ kind: 'LVM2_member', text: 'a physical volume of LVM', at, magic: 'LABELONE' })),
  { kind: 'VMFS_volume_member', text: 'an extent of a VMware VMFS datastore', at: MIB, magic: [0x0d, 0xd0, 0x01, 0xc0] },
  { kind: 'VMFS', text: 'a VMware VMFS datastore', at: 2 * MIB, magic: [0x5e, 0xf1, 0xab, 0x2f], label: [2 * MIB + 0x1d, 128] },
  { kind: 'xfs', text: 'an XFS file system', at: 0, magic: 'XFSB', label: [108, 12], uuid: 32 },
  { kind: 'btrfs', text: 'a Btrfs file system', at: 64 * KIB + 64, magic: '_BHRfS_M', label: [64 * KIB + 0x12b, 256], uuid: 64 * KIB + 32 },
  { kind: 'swap', text: 'swap space', at: 4086, magic: 'SWAPSPACE2', label: [1052, 16], uuid: 1036 },
  { kind: 'swap', text: 'swap space', at: 4086, magic: 'SWAP-SPACE' },
  { kind: 'swap', text: 'swap space (64 KiB pages)', at: 65526, magic: 'SWAPSPACE2', label: [1052, 16], uuid: 1036 },
  { kind: 'crypto_LUKS', text: 'a LUKS-encrypted device', at: 0, magic: 'LUKS\xba\xbe' },
  { kind: 'linux_raid_member', text: 'a member of a Linux MD RAID', at: 0, magic: [0xfc, 0x4e, 0x2b, 0xa9], label: [32, 32], uuid: 16 },
  { kind: 'linux_raid_member', text: 'a member of a Linux MD RAID', at: 4096, magic: [0xfc, 0x4e, 0x2b, 0xa9], label: [4096 + 32, 32], uuid: 4096 + 16 },
  { kind: 'zfs_member', text: 'a member of a ZFS pool', at: 128 * KIB, magic: [0x0c, 0xb1, 0xba, 0x00, 0, 0, 0, 0] },
  { kind: 'bcache', text: 'a bcache device', at: 4096 + 24, magic: [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca] },
  { kind: 'ntfs', text: 'an NTFS file system', at: 3, magic: 'NTFS    ' },
  { kind: 'exfat', text: 'an exFAT file system', at: 3, magic: 'EXFAT   ' },
  { kind: 'ReFS', text: 'a ReFS file system', at: 3, magic: 'ReFS\0' },
  { kind: 'vfat', text: 'a FAT file system', at: 82, magic: 'FAT32   ' },
  { kind: 'vfat', text: 'a FAT file system', at: 54, magic: 'FAT1' },
  { kind: 'gfs2', text: 'a GFS2 file system', at: 64 * KIB, magic: [0x01, 0x16, 0x19, 0x70] },
  { kind: 'oracleasm', text: 'an Oracle ASM disk', at: 32, magic: 'ORCLDISK', label: [40, 24] },
  { kind: 'ocfs', text: 'an OCFS (version 1) volume', at: 8, magic: 'OracleCFS' },
  { kind: 'ceph_bluestore', text: 'a Ceph BlueStore device', at: 0, magic: 'bluestore block device' },
  { kind: 'iso9660', text: 'an ISO 9660 image', at: 32769, magic: 'CD001' },
  { kind: 'squashfs', text: 'a SquashFS image', at: 0, magic: 'hsqs' },
  { kind: 'qcow2', text: 'a qcow2 disk image', at: 0, magic: 'QFI\xfb' },
  { kind: 'f2fs', text: 'an F2FS file system', at: 1024, magic: [0x10, 0x20, 0xf5, 0xf2] },
];

function textAt(bytes: Buffer): string | undefined {
  const end = bytes.indexOf(0);
  const text = printable((end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8'));
  return text === '' ? undefined : text;
}

function uuidText(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

async function fromTable(pages: Pages): Promise<Signature[]> {
  const found: Signature[] = [];
  for (const { kind, text, at, magic, label, uuid } of MAGICS) {
    const wanted = typeof magic === 'string' ? Buffer.from(magic, 'latin1') : Buffer.from(magic);
    if (Buffer.compare(await pages.read(at, wanted.length), wanted) !== 0) continue;
    found.push({
      kind, text,
      label: label === undefined ? undefined : textAt(await pages.read(...label)),
      uuid: uuid === undefined ? undefined : uuidText(await pages.read(uuid, 16)),
    });
  }
  return found;
}

/** RAID metadata at the end: version 1.0 in the last 8 to 12 KiB, version 0.90 in the last 64 to 128 KiB, in either byte order. */
async function raidAtEnd(pages: Pages): Promise<Signature[]> {
  const sectors = Math.floor(pages.device.size / 512);
  const places = [Math.floor((sectors - 16) / 8) * 8 * 512, Math.floor(pages.device.size / (64 * KIB)) * 64 * KIB - 64 * KIB];
  for (const at of places) {
    if (at <= 0) continue;
    const magic = await pages.read(at, 4);
    if (magic.readUInt32LE() === 0xa92b4efc || magic.readUInt32BE() === 0xa92b4efc) return [{ kind: 'linux_raid_member', text: 'a member of a Linux MD RAID' }];
  }
  return [];
}

async function ext(pages: Pages): Promise<Signature[]> {
  const sb = await pages.read(1024, 256);
  if (sb.readUInt16LE(56) !== 0xef53) return [];
  const compat = sb.readUInt32LE(92), incompat = sb.readUInt32LE(96);
  const kind = incompat & 0x8 ? 'jbd' : incompat & 0x2c0 ? 'ext4' : compat & 0x4 ? 'ext3' : 'ext2';
  return [{ kind, text: kind === 'jbd' ? 'an external ext journal' : `an ${kind} file system`, label: textAt(sb.subarray(120, 136)), uuid: uuidText(sb.subarray(104, 120)) }];
}

/** Partition tables. A protective MBR beside a GPT is not told apart; a boot sector of a file system is no MBR. */
async function partitions(pages: Pages): Promise<Signature[]> {
  for (const sector of [512, 4096]) {
    if ((await pages.read(sector, 8)).toString('latin1') === 'EFI PART') return [{ kind: 'gpt', text: 'a GPT partition table' }];
  }
  const mbr = await pages.read(0, 512);
  if (mbr.readUInt16LE(510) !== 0xaa55) return [];
  const entries = [446, 462, 478, 494].map((at) => ({ boot: mbr[at], type: mbr[at + 4], start: mbr.readUInt32LE(at + 8), sectors: mbr.readUInt32LE(at + 12) }));
  const used = entries.filter((e) => e.type !== 0);
  if (used.length === 0 || entries.some((e) => e.boot & 0x7f) || used.some((e) => e.start === 0 || e.sectors === 0)) return [];
  return [{ kind: 'dos', text: `an MBR partition table with ${used.length} partition${used.length === 1 ? '' : 's'}` }];
}

/** Everything recognisable on `device`, most telling first; empty: nothing known. */
export async function probeSignatures(device: BlockDevice): Promise<Signature[]> {
  const pages = new Pages(device);
  const all = [...(await partitions(pages)), ...(await fromTable(pages)), ...(await ext(pages)), ...(await raidAtEnd(pages))];
  return all.filter((one, i) => all.findIndex((other) => other.kind === one.kind) === i);
}
