/**
 * The volumes that are broken: tiny, made by the engine, with one of everything in them. Each has files that a case changes
 * and files under `keep` that it never names: their blocks must come out of every case as they went in.
 */
import { MemoryDevice, Random } from '@lunfs/device';
import { type MkfsOptions, type MountOptions, Volume, fallocate, flushTruncateLog, formatVolume, punchHole, truncateFile, writeFile } from '@lunfs/ocfs2';

const MIB = 2 ** 20;

export interface FuzzVolume {
  readonly name: string;
  readonly device: MemoryDevice;
  /** Checksums are there, so that leaving them wrong is a case of its own. */
  readonly metaecc: boolean;
  /** The journal holds changes that are not in place. */
  readonly dirty: boolean;
}

interface Spec {
  readonly name: string;
  readonly mkfs: MkfsOptions;
  /** Default: 16 MiB, 32 with large blocks. */
  readonly size?: number;
  readonly dirty?: boolean;
  /** Free space is in so many pieces that allocator groups are, too. */
  readonly fragmented?: boolean;
}

const LOCAL: MkfsOptions = { mount: 'local', slots: 1, journalSize: 4 * MIB, clusterSize: 4096 };
const SPECS: readonly Spec[] = [
  { name: '512 metaecc, fragmented', mkfs: { ...LOCAL, blockSize: 512, features: 'metaecc' }, fragmented: true },
  { name: '512', mkfs: { ...LOCAL, blockSize: 512 } },
  { name: '1K metaecc quota', mkfs: { ...LOCAL, blockSize: 1024, features: 'metaecc,usrquota,grpquota' } },
  { name: '4K metaecc', mkfs: { ...LOCAL, blockSize: 4096, features: 'metaecc' } },
  { name: '4K plain', mkfs: { ...LOCAL, blockSize: 4096, featureLevel: 'max-compat' } },
  { name: '1K metaecc quota, dirty journal', mkfs: { ...LOCAL, blockSize: 1024, features: 'metaecc,usrquota,grpquota' }, dirty: true },
  { name: '2K cluster', mkfs: { blockSize: 2048, clusterSize: 4096, slots: 2, journalSize: 4 * MIB, clusterStack: 'o2cb', clusterName: 'fuzz' }, size: 24 * MIB },
  { name: '4K/64K backups', mkfs: { ...LOCAL, blockSize: 4096, clusterSize: 65536 }, size: 1030 * MIB },
];

/** Options that make a mount depend on nothing but its seed. */
export function quietMount(seed: number): MountOptions {
  let sec = 1_700_000_000, ms = 0;
  const clock = { now: () => ({ sec: sec++, nsec: 123_456_789 }), monotonic: () => ms++ };
  return { clock, timers: { after: () => () => undefined }, random: new Random(seed), pause: async () => undefined, offline: true };
}

export async function fuzzVolumes(): Promise<FuzzVolume[]> {
  const all: FuzzVolume[] = [];
  for (const spec of SPECS) all.push({ name: spec.name, device: await build(spec), metaecc: spec.mkfs.features?.includes('metaecc') === true, dirty: spec.dirty === true });
  return all;
}

const FILE = { mode: 0o100644, uid: 1000, gid: 1000 }, DIRECTORY = { mode: 0o040755, uid: 1000, gid: 1000 };

async function build({ name, mkfs, dirty = false, fragmented = false, size = (mkfs.blockSize === 4096 ? 32 : 16) * MIB }: Spec): Promise<MemoryDevice> {
  const device = new MemoryDevice({ size, name });
  await formatVolume(device, mkfs, { random: new Random(7), time: 1_600_000_000 });
  const volume = await Volume.mount(device, quietMount(7));
  if (fragmented) await fragment(volume);
  await populate(volume);
  if (!dirty) await volume.unmount();
  else {
    // A crash: all but the last transaction is in place, with windows, records of the truncate log and quota files as they are in use;
    // what came after it is in the log alone; one file lost its name while it was open.
    await volume.ctx.engine.log.flush();
    const { blkno } = await volume.names.lookup(volume.names.root, Buffer.from('open'));
    await volume.names.unlink(volume.names.root, Buffer.from('open'));
    await volume.names.attributes(blkno);
    await volume.ctx.engine.log.commit();
  }
  return device.clone(name);
}

/** Free runs of half a megabyte at most, before the first extent block is needed. */
async function fragment({ names, ctx }: Volume): Promise<void> {
  const piece = 128 * ctx.geo.clusterSize;
  const dir = (await names.create(names.root, Buffer.from('fragments'), DIRECTORY)).blkno;
  let made = 0;
  for (let full = false; !full; made++) {
    const { blkno } = await names.create(dir, Buffer.from(String(made)), FILE);
    await names.forget(blkno);
    await fallocate(ctx, blkno, 'reserve', 0, piece, false).catch(() => (full = true));
  }
  for (let i = 0; i < made; i += 2) await names.unlink(dir, Buffer.from(String(i)));
  await names.unlink(dir, Buffer.from(String(made - 1))).catch(() => undefined);
  await names.forget(dir);
  await flushTruncateLog(ctx);
}

async function populate(volume: Volume): Promise<void> {
  const { names, ctx } = volume;
  const { blockSize, clusterSize, sparse, xattr, refcount } = volume.geo;
  const create = async (dir: number, name: string, spec: Parameters<typeof names.create>[2] = FILE): Promise<number> => {
    const made = await names.create(dir, Buffer.from(name), spec);
    await names.forget(made.blkno);
    return made.blkno;
  };
  const write = (ino: number, at: number, length: number, seed = at) => writeFile(ctx, ino, at, pattern(length, seed));
  const set = (ino: number, name: string, length: number) => names.setXattr(ino, Buffer.from(name), pattern(length, length));
  /** Extents that do not touch in the file, so many that the tree has leaves of its own. */
  const scattered = async (ino: number, extents: number): Promise<void> => {
    for (let i = 0; i < extents; i++) await write(ino, (sparse ? 2 * i : i) * clusterSize, sparse ? 700 : clusterSize, i);
  };
  const perDinode = Math.floor((blockSize - 0xd0) / 16), perBlock = (blockSize - 0x40) / 16;
  /** In the inode, in a block, in buckets (one file's with a tree of them), values outside. */
  const withAttributes = async (top: string): Promise<void> => {
    const dir = await find(volume, top);
    const inside = await create(dir, 'attributes');
    await set(inside, 'user.a', 20);
    await set(inside, 'user.b', 70);
    const block = await create(dir, 'attributes in a block');
    for (const name of ['user.first', 'security.second', 'trusted.third']) await set(block, name, 75);
    await set(block, 'user.big', Math.min(2 * clusterSize + 100, 20_000));
    const many = await create(dir, 'many attributes'), buckets = top === 'change' && blockSize === 512 && !volume.geo.metaecc ? 30 : 3;
    for (let i = 0; i < 13 * buckets; i++) await set(many, `user.${i}${'n'.repeat(180)}`, 70);
    await set(many, 'user.big', 100);
  };
  /** Clusters shared by two and by three; where blocks are small, so many records that the tree has leaves. */
  const withClones = async (top: string): Promise<void> => {
    const dir = await find(volume, top);
    const source = await create(dir, 'shared'), n = blockSize === 512 ? 64 : 8;
    await fallocate(ctx, source, 'reserve', 0, n * clusterSize, false);
    await write(source, clusterSize, 3 * clusterSize);
    for (const name of ['clone', 'other clone']) {
      const { blkno } = await names.reflink(source, dir, Buffer.from(name), { uid: 1001, gid: 1001 });
      await names.forget(blkno);
      for (let i = name === 'clone' ? 0 : 1; i < n / 2; i += name === 'clone' ? 1 : 2) await punchHole(ctx, blkno, 2 * i * clusterSize, clusterSize);
      await write(blkno, 3 * clusterSize, 100);
    }
  };
  for (const top of ['keep', 'change']) {
    const dir = await create(names.root, top, DIRECTORY);
    const seed = top === 'keep' ? 100 : 200;
    await write(await create(dir, 'small'), 0, 60, seed);
    await write(await create(dir, 'plain'), 0, 3 * clusterSize + 100, seed + 1);
    if (clusterSize === 4096) await scattered(await create(dir, 'deep'), Math.min(perDinode + 20, 300));
    // Two levels of extent blocks, where that takes few of them.
    if (top === 'keep' && perDinode * perBlock < 600) await scattered(await create(dir, 'deeper'), perDinode * perBlock + 30);
    const reserved = await create(dir, 'reserved');
    await write(reserved, 0, 100, seed + 2);
    if (sparse) await fallocate(ctx, reserved, 'reserve', 0, 6 * clusterSize, false);
    else await truncateFile(ctx, reserved, 4 * clusterSize);
    await create(dir, 'fast', { ...FILE, mode: 0o120777, target: Buffer.from('a/short/target') });
    await create(dir, 'slow', { ...FILE, mode: 0o120777, target: pattern(Math.min(blockSize, 3000), 3).map((b) => 0x61 + (b % 26)) });
    await create(dir, 'fifo', { ...FILE, mode: 0o010644 });
    await create(dir, 'device', { ...FILE, mode: 0o060600, rdev: 0x801 });
    const inline = await create(dir, 'inline directory', DIRECTORY);
    await create(inline, 'one');
    await create(inline, 'below', DIRECTORY);
    // Names of one inode: a full directory and its index without an inode for each.
    const large = await create(dir, 'large directory', DIRECTORY);
    const linked = await create(large, 'linked');
    const fits = Math.floor((blockSize - 0xc8) / 16);
    for (let i = 0; i < fits + 20; i++) await names.link(linked, large, Buffer.from(`another name of it ${i}`)).then(() => names.forget(linked));
    const medium = await create(dir, 'medium directory', DIRECTORY);
    for (let i = 0; i < 12; i++) await names.link(linked, medium, Buffer.from(`${i}. name that fills a block soon`)).then(() => names.forget(linked));
  }
  if (xattr) for (const top of ['keep', 'change']) await withAttributes(top);
  if (refcount) for (const top of ['keep', 'change']) await withClones(top);
  for (const type of volume.quota?.types ?? []) {
    for (let id = 2000; id < 2008; id++) await volume.quota!.setLimits(type, id, { spaceSoft: id * 4096, spaceHard: id * 8192, inodeHard: 50 });
  }
  const gone = await create(names.root, 'gone');
  await write(gone, 0, 2 * clusterSize, 9);
  await names.unlink(names.root, Buffer.from('gone'));
  await write(await create(names.root, 'open'), 0, clusterSize, 10);
}

async function find({ names }: Volume, top: string): Promise<number> {
  const { blkno } = await names.lookup(names.root, Buffer.from(top));
  await names.forget(blkno);
  return blkno;
}

export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  new Random(seed).fill(bytes);
  return bytes;
}
