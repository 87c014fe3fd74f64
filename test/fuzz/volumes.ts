/**
 * The volumes that are broken: tiny, made by the engine, with one of everything in them. Each has files that a case changes
 * and files under `keep` that it never names: their blocks must come out of every case as they went in.
 */
import { MemoryDevice, Random } from '@lunfs/device';
import { type MkfsOptions, type MountOptions, Volume, fallocate, formatVolume, truncateFile, writeFile } from '@lunfs/ocfs2';

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
  readonly dirty?: boolean;
}

const LOCAL: MkfsOptions = { mount: 'local', slots: 1, journalSize: 4 * MIB, clusterSize: 4096 };
const SPECS: readonly Spec[] = [
  { name: '512 metaecc', mkfs: { ...LOCAL, blockSize: 512, features: 'metaecc' } },
  { name: '512', mkfs: { ...LOCAL, blockSize: 512 } },
  { name: '1K metaecc', mkfs: { ...LOCAL, blockSize: 1024, features: 'metaecc' } },
  { name: '4K metaecc', mkfs: { ...LOCAL, blockSize: 4096, features: 'metaecc' } },
  { name: '4K plain', mkfs: { ...LOCAL, blockSize: 4096, featureLevel: 'max-compat' } },
  { name: '1K metaecc, dirty journal', mkfs: { ...LOCAL, blockSize: 1024, features: 'metaecc' }, dirty: true },
];

/** Options that make a mount depend on nothing but its seed. */
export function quietMount(seed: number): MountOptions {
  let sec = 1_700_000_000, ms = 0;
  const clock = { now: () => ({ sec: sec++, nsec: 123_456_789 }), monotonic: () => ms++ };
  return { clock, timers: { after: () => () => undefined }, random: new Random(seed), pause: async () => undefined };
}

export async function fuzzVolumes(): Promise<FuzzVolume[]> {
  const all: FuzzVolume[] = [];
  for (const { name, mkfs, dirty = false } of SPECS) all.push({ name, device: await build(name, mkfs, dirty), metaecc: mkfs.features === 'metaecc', dirty });
  return all;
}

const FILE = { mode: 0o100644, uid: 1000, gid: 1000 }, DIRECTORY = { mode: 0o040755, uid: 1000, gid: 1000 };

async function build(name: string, mkfs: MkfsOptions, dirty: boolean): Promise<MemoryDevice> {
  const device = new MemoryDevice({ size: (mkfs.blockSize === 4096 ? 32 : 16) * MIB, name });
  await formatVolume(device, mkfs, { random: new Random(7), time: 1_600_000_000 });
  const volume = await Volume.mount(device, quietMount(7));
  await populate(volume);
  if (!dirty) await volume.unmount();
  else {
    // A crash: what is committed but not checkpointed is in the log alone; one file lost its name while it was open.
    await volume.sync();
    const { blkno } = await volume.names.lookup(volume.names.root, Buffer.from('open'));
    await volume.names.unlink(volume.names.root, Buffer.from('open'));
    await volume.names.attributes(blkno);
    await volume.ctx.engine.log.commit();
  }
  return device.clone(name);
}

async function populate(volume: Volume): Promise<void> {
  const { names, ctx } = volume;
  const { blockSize, clusterSize, sparse } = volume.geo;
  const create = async (dir: number, name: string, spec: Parameters<typeof names.create>[2] = FILE): Promise<number> => {
    const made = await names.create(dir, Buffer.from(name), spec);
    await names.forget(made.blkno);
    return made.blkno;
  };
  const write = (ino: number, at: number, length: number, seed: number) => writeFile(ctx, ino, at, pattern(length, seed));
  /** Extents that do not touch in the file, so many that the tree has leaves of its own. */
  const scattered = async (ino: number, extents: number): Promise<void> => {
    for (let i = 0; i < extents; i++) await write(ino, (sparse ? 2 * i : i) * clusterSize, sparse ? 700 : clusterSize, i);
  };
  const perDinode = Math.floor((blockSize - 0xd0) / 16), perBlock = (blockSize - 0x40) / 16;
  for (const top of ['keep', 'change']) {
    const dir = await create(names.root, top, DIRECTORY);
    const seed = top === 'keep' ? 100 : 200;
    await write(await create(dir, 'small'), 0, 60, seed);
    await write(await create(dir, 'plain'), 0, 3 * clusterSize + 100, seed + 1);
    await scattered(await create(dir, 'deep'), Math.min(perDinode + 20, 300));
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
  const gone = await create(names.root, 'gone');
  await write(gone, 0, 2 * clusterSize, 9);
  await names.unlink(names.root, Buffer.from('gone'));
  await write(await create(names.root, 'open'), 0, clusterSize, 10);
}

export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  new Random(seed).fill(bytes);
  return bytes;
}
