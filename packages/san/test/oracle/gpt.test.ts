/**
 * Growing a partition beside the programs that others trust with their tables: sgdisk makes them, ours changes one entry, and sgdisk, sfdisk and parted say that the table is
 * whole, that nothing else has changed and that the new end is used. A run that is cut short anywhere leaves a table that Linux finds; a table with a wrong byte is left alone.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { type BlockDevice, MemoryDevice, Random } from '@lunfs/device';
import { afterAll, describe, expect, it } from 'vitest';
import { Cleanup, exec, must, seed, sparseFile, tempDir } from '../../../../test/support/temp.js';
import { arraySectors, parseGpt, parseHeader } from '../../src/gpt/codec.js';
import { type PartitionGrowthOptions, growPartition } from '../../src/gpt/grow.js';
import { planGrowth } from '../../src/gpt/plan.js';
import { readTables } from '../../src/gpt/tables.js';
import { thisHost } from '../../src/host.js';

const MIB = 2 ** 20;
const cleanup = new Cleanup();
afterAll(() => cleanup.run());

interface Sfdisk {
  partitiontable: { device: string; id: string; firstlba: number; lastlba: number; partitions: { node?: string; start: number; size: number; type: string; uuid: string; name?: string; attrs?: string }[] };
}

/** Without what names the file. */
async function sfdisk(file: string): Promise<Omit<Sfdisk['partitiontable'], 'device'>> {
  const { device: _, partitions, ...table } = (JSON.parse(await must('sfdisk', ['--json', file])) as Sfdisk).partitiontable;
  return { ...table, partitions: partitions.map(({ node: __, ...one }) => one) };
}

/** What stands for a volume: the first 4 KiB of the partition. */
async function identify(partition: BlockDevice): Promise<string> {
  const bytes = new Uint8Array(4096);
  await partition.read(0, bytes);
  return createHash('sha256').update(bytes).digest('hex');
}

function options(directory: string, more: Partial<PartitionGrowthOptions> = {}): PartitionGrowthOptions {
  return { save: (guid) => path.join(directory, `saved-${guid}`), identify, ...more };
}

/** A disk with `parts` partitions of random places, names, types and attributes; each begins with bytes of its own. */
async function disk(random: Random, directory: string, parts: number, bytes: number): Promise<string> {
  const file = sparseFile(path.join(directory, `disk-${random.u32()}`), bytes);
  const args: string[] = [];
  const each = Math.floor((bytes / 512 - 4096) / parts);
  for (let i = 0; i < parts; i++) {
    const start = 2048 + i * each + random.int(Math.max(1, Math.floor(each / 4)));
    const end = start + 16 + random.int(Math.floor(each / 2));
    args.push('-a', '1', '-n', `${i + 1}:${start}:${end}`, '-t', `${i + 1}:${random.pick(['8300', '8e00', '0700', 'ef00'])}`, '-c', `${i + 1}:${random.pick(['', 'daten', 'größe', 'x'.repeat(36)])}`);
    if (random.chance(0.3)) args.push('-A', `${i + 1}:set:${random.pick([2, 60, 63])}`);
  }
  await must('sgdisk', [...args, file]);
  const fd = fs.openSync(file, 'r+');
  for (const { start } of (await sfdisk(file)).partitions) {
    const own = new Uint8Array(4096);
    random.fill(own);
    fs.writeSync(fd, own, 0, own.length, start * 512);
  }
  fs.closeSync(fd);
  return file;
}

describe('growPartition', () => {
  const started = seed('gpt');
  it('changes the end of one entry and nothing else, as sgdisk, sfdisk and parted see it', { timeout: 900_000 }, async () => {
    const random = new Random(started);
    for (let round = 0; round < 5; round++) {
      const directory = tempDir(cleanup, 'gpt');
      const parts = 1 + random.int(4);
      const file = await disk(random, directory, parts, (32 + random.int(64)) * MIB);
      const before = await sfdisk(file);
      fs.truncateSync(file, fs.statSync(file).size + (1 + random.int(4000)) * 4096);
      const index = 1 + random.int(parts);
      const planned = await growPartition(thisHost, file, options(directory, { index, dryRun: true }));
      expect(await sfdisk(file)).toEqual(before);
      const made = await growPartition(thisHost, file, options(directory, { index }));
      expect(made.plan).toEqual(planned.plan);
      const after = await sfdisk(file);
      const last = parts === index;
      const grown = after.partitions[index - 1];
      expect(after.partitions).toEqual(before.partitions.map((one, i) => (i === index - 1 ? { ...one, size: made.plan.sizeAfter / 512 } : one)));
      expect([after.id, after.firstlba]).toEqual([before.id, before.firstlba]);
      expect(after.lastlba).toBe(fs.statSync(file).size / 512 - 34);
      const limit = last ? after.lastlba : before.partitions[index].start - 1;
      expect([grown.start * 512, limit - (grown.start + grown.size - 1) < 2048, grown.start + grown.size - 1 <= limit]).toEqual([made.plan.start, true, true]);
      expect(await must('sgdisk', ['--verify', file])).toContain('No problems found');
      // In a locale of ASCII it complains of the partitions' names.
      const parted = await exec('parted', ['-s', '-m', file, 'unit', 's', 'print'], { env: { LC_ALL: 'C.UTF-8' } });
      expect([parted.status, parted.stderr]).toEqual([0, '']);
      expect(parted.stdout).toContain(`\n${index}:${grown.start}s:${grown.start + grown.size - 1}s:${grown.size}s:`);
      // What was saved brings the old table back.
      await must('sgdisk', [`--load-backup=${made.saved ?? ''}`, file]);
      expect((await sfdisk(file)).partitions).toEqual(before.partitions);
    }
  });

  it('a run that ends anywhere leaves a table that is found, with every start where it was', { timeout: 600_000 }, async () => {
    const random = new Random(started + 1);
    const directory = tempDir(cleanup, 'gpt');
    const file = await disk(random, directory, 3, 24 * MIB);
    const bytes = fs.readFileSync(file);
    const starts = (await sfdisk(file)).partitions.map(({ start }) => start);
    const memory = new MemoryDevice({ size: 40 * MIB, name: 'disk' });
    memory.writeSync(0, new Uint8Array(bytes));
    const tables = await readTables(memory);
    const plan = planGrowth(tables.gpt, tables.mbr, tables.sectors, 3, 'disk');
    const writes = plan.writes.flatMap(({ offset, bytes: all }) => Array.from({ length: all.length / 512 }, (_, i) => ({ at: offset + i * 512, sector: all.subarray(i * 512, (i + 1) * 512) })));
    const found = (at: number): number[] | undefined => {
      const sector = new Uint8Array(512);
      memory.readSync(at * 512, sector);
      try {
        const header = parseHeader(sector, at, tables.sectors, 'disk');
        if (header === undefined) return undefined;
        const array = new Uint8Array(arraySectors(header) * 512);
        memory.readSync(header.entries * 512, array);
        return parseGpt(header, array, 'disk').entries.map(({ first }) => first);
      } catch {
        return undefined;
      }
    };
    for (const { at, sector } of writes) {
      // The kernel takes the primary, else the backup in the last sector (Linux 6.1 block/partitions/efi.c:find_valid_gpt).
      expect(found(1) ?? found(tables.sectors - 1), `before sector ${at / 512}`).toEqual(starts);
      memory.writeSync(at, sector);
    }
    expect([found(1), found(tables.sectors - 1)]).toEqual([starts, starts]);
    expect(writes.length).toBeGreaterThan(60);
  });

  it('leaves a table alone in which one byte is wrong', { timeout: 600_000 }, async () => {
    const random = new Random(started + 2);
    const directory = tempDir(cleanup, 'gpt');
    const file = await disk(random, directory, 2, 16 * MIB);
    fs.truncateSync(file, 32 * MIB);
    const good = fs.readFileSync(file);
    const places = [...Array.from({ length: 92 }, (_, i) => 512 + i), ...Array.from({ length: 92 }, (_, i) => 16 * MIB - 512 + i), ...Array.from({ length: 60 }, () => 1024 + random.int(16384)), ...Array.from({ length: 30 }, () => 16 * MIB - 33 * 512 + random.int(16384))];
    const device = new MemoryDevice({ size: 32 * MIB, name: 'disk' });
    device.writeSync(0, new Uint8Array(good));
    await readTables(device);
    for (const at of places) {
      const sector = at - (at % 512);
      const bad = new Uint8Array(good.subarray(sector, sector + 512));
      bad[at - sector] ^= 1 << random.int(8);
      device.writeSync(sector, bad);
      await expect(readTables(device), `byte ${at}`).rejects.toMatchObject({ code: expect.stringMatching(/^GPT_(HEADER|ENTRIES|BACKUP|NONE)$/) as string });
      device.writeSync(sector, new Uint8Array(good.subarray(sector, sector + 512)));
    }
  });

  it('refuses what it cannot do, with why', { timeout: 600_000 }, async () => {
    const random = new Random(started + 3);
    const directory = tempDir(cleanup, 'gpt');
    const file = await disk(random, directory, 2, 32 * MIB);
    const grow = (more: Partial<PartitionGrowthOptions> = {}): Promise<unknown> => growPartition(thisHost, file, options(directory, more));
    await expect(grow()).rejects.toMatchObject({ code: 'GPT_WHICH' });
    await expect(grow({ index: 7 })).rejects.toMatchObject({ code: 'GPT_NO_PARTITION' });
    fs.truncateSync(file, 64 * MIB);
    fs.writeFileSync(path.join(directory, 'taken'), '');
    const before = fs.readFileSync(file);
    await expect(grow({ index: 2, save: () => path.join(directory, 'taken') })).rejects.toMatchObject({ code: 'GPT_SAVE' });
    expect(fs.readFileSync(file).equals(before)).toBe(true);
    // A partition that holds something else by the new table: the old one comes back.
    let asked = 0;
    await expect(grow({ index: 2, identify: () => Promise.resolve(`volume ${asked++}`) })).rejects.toMatchObject({ code: 'GPT_MOVED' });
    const { partitions, lastlba } = await sfdisk(file);
    expect([partitions, lastlba]).toEqual([(await sfdisk(writeCopy(directory, before))).partitions, 32 * MIB / 512 - 34]);
    await growPartition(thisHost, file, options(directory, { index: 2, save: () => path.join(directory, 'third') }));
    await expect(grow({ index: 2 })).rejects.toMatchObject({ code: 'GPT_NO_ROOM' });
    const mbr = sparseFile(path.join(directory, 'mbr'), 16 * MIB);
    await must('sfdisk', ['-q', mbr], { input: 'label: dos\n,8M\n' });
    await expect(growPartition(thisHost, mbr, options(directory))).rejects.toMatchObject({ code: 'GPT_NONE' });
  });

  it('tables of 4096-byte sectors, and of 8 TiB', { timeout: 600_000 }, async () => {
    const directory = tempDir(cleanup, 'gpt');
    const file = sparseFile(path.join(directory, 'large'), 8 * 2 ** 40);
    await must('sgdisk', ['-n', '1:2048:+1T', file]);
    const { plan } = await growPartition(thisHost, file, options(directory));
    expect([plan.sizeAfter > 8 * 2 ** 40 - 3 * MIB, (plan.start + plan.sizeAfter) % MIB]).toEqual([true, 0]);
    expect(await must('sgdisk', ['--verify', file])).toContain('No problems found');
    const wide = sparseFile(path.join(directory, 'wide'), 64 * MIB);
    const env = { ...process.env, PED_SECTOR_SIZE_DEFAULT: '4096' };
    const parted = (...words: string[]): Promise<string> => must('parted', ['-s', '-m', wide, ...words], { env });
    await parted('mklabel', 'gpt', 'mkpart', 'data', '1MiB', '20MiB');
    fs.truncateSync(wide, 96 * MIB);
    const grown = (await growPartition(thisHost, wide, options(directory))).plan;
    expect([grown.start, grown.sizeBefore, grown.sizeAfter]).toEqual([MIB, 19 * MIB, 94 * MIB]);
    expect(await parted('unit', 'B', 'print')).toContain(`\n1:${MIB}B:${95 * MIB - 1}B:${94 * MIB}B:`);
  });
});

function writeCopy(directory: string, bytes: Uint8Array): string {
  const file = path.join(directory, 'copy');
  fs.writeFileSync(file, bytes);
  return file;
}
