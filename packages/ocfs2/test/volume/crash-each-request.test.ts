/**
 * One script, and a device that fails at each read, each write and each flush of it in turn, once or for good. A read that
 * failed costs its operation and nothing else (but for data that is on its way to the device: below). A write or flush of the journal that failed makes the volume read-only at
 * once: further changes say EROFS and why, reading goes on. Whatever failed, the next mount finds the volume sound.
 * (crash-errors.test.ts does this with power failures and long scripts, by sample.)
 */
import { type BlockDevice, type FaultyOperation, FaultyDevice, IoError, LunfsError, MemoryDevice, Random } from '@lunfs/device';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkVolume } from '../../src/check/index.js';
import { formatVolume } from '../../src/mkfs/index.js';
import { Volume, fallocate, readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { quietMount } from '../support/crash.js';

const MIB = 2 ** 20;
const FILE = { mode: 0o100644, uid: 0, gid: 0 }, DIRECTORY = { mode: 0o040755, uid: 0, gid: 0 };
const name = (text: string) => Buffer.from(text);
let fresh: MemoryDevice;

beforeAll(async () => {
  fresh = new MemoryDevice({ size: 16 * MIB, name: 'failing' });
  await formatVolume(fresh, { mount: 'local', slots: 1, journalSize: 4 * MIB, blockSize: 1024, clusterSize: 4096, features: 'metaecc' }, { random: new Random(1), time: 1_600_000_000 });
});

/** What was done, as far as it came, and what failed. */
interface Outcome {
  volume: Volume | undefined;
  readonly errors: unknown[];
}

/** A little of everything, with commits and checkpoints in between. Steps that fail are noted; the others are done all the same. */
async function script(device: BlockDevice): Promise<Outcome> {
  const outcome: Outcome = { volume: undefined, errors: [] };
  const step = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch (error) {
      outcome.errors.push(error);
      return undefined;
    }
  };
  const volume = await step(() => Volume.mount(device, quietMount(1, { cacheBlocks: 64 })));
  if (volume === undefined) return outcome;
  outcome.volume = volume;
  const { names, ctx } = volume;
  const create = async (dir: number, text: string, spec: typeof FILE): Promise<number> => {
    const made = await names.create(dir, name(text), spec);
    await names.forget(made.blkno);
    return made.blkno;
  };
  const dir = await step(() => create(names.root, 'directory', DIRECTORY));
  for (let i = 0; dir !== undefined && i < 30; i++) await step(() => create(dir, `file number ${i} of the script`, FILE));
  const file = await step(() => create(names.root, 'file', FILE));
  if (file !== undefined) {
    for (let i = 0; i < 70; i += 2) await step(() => writeFile(ctx, file, i * 4096, new Uint8Array(3000).fill(i)));
    await step(() => volume.sync());
    await step(() => readFile(ctx, file, 0, new Uint8Array(300_000)));
    await step(() => fallocate(ctx, file, 'reserve', 0, 100_000, true));
    await step(() => truncateFile(ctx, file, 10_000));
    await step(() => ctx.engine.log.flush());
  }
  if (dir !== undefined) {
    await step(() => names.rename({ oldDir: dir, oldName: name('file number 3 of the script'), newDir: names.root, newName: name('moved') }));
    for (let i = 10; i < 20; i++) await step(() => names.unlink(dir, name(`file number ${i} of the script`)));
    await step(() => names.readdir(dir));
  }
  await step(() => names.unlink(names.root, name('file')));
  await step(() => volume.sync());
  return outcome;
}

/** Number of requests of each kind from mount to last sync. */
async function count(): Promise<Map<FaultyOperation, number>> {
  const counts = new Map<FaultyOperation, number>();
  const device = new FaultyDevice(fresh, {
    random: new Random(1),
    latency: (operation) => {
      counts.set(operation, (counts.get(operation) ?? 0) + 1);
      return 0;
    },
  });
  const { volume, errors } = await script(device);
  expect(errors).toEqual([]);
  await volume!.unmount();
  return counts;
}

async function expectSound(device: FaultyDevice): Promise<void> {
  const image = device.snapshot();
  const again = await Volume.mount(image, quietMount(2));
  await again.unmount();
  expect((await checkVolume(image)).findings.filter(({ severity }) => severity !== 'recovery')).toEqual([]);
}

async function expectReadOnly(volume: Volume): Promise<void> {
  const { names } = volume;
  const refused = await names.create(names.root, name('late'), FILE).then(() => undefined, (error: unknown) => error);
  expect(refused).toBeInstanceOf(LunfsError);
  expect(refused).toMatchObject({ errno: 'EROFS', code: 'JOURNAL_ABORTED' });
  expect((refused as LunfsError).message).toMatch(/(read|write|flush|zero).* failed: EIO/);
  const { entries } = await names.readdir(names.root);
  for (const { name: text } of entries) await names.lookup(names.root, text);
  await names.statistics();
  await expect(volume.sync()).rejects.toMatchObject({ code: 'JOURNAL_ABORTED' });
}

describe.each(['read', 'write', 'flush', 'zero'] as const)('each %s fails', (kind) => {
  test.each([1, Infinity])('%s times', { timeout: 300_000 }, async (times) => {
    const requests = (await count()).get(kind) ?? 0;
    for (let nth = 0; nth < requests; nth++) {
      const device = new FaultyDevice(fresh, { random: new Random(nth) });
      const heal = device.fail({ operations: [kind], after: nth, times });
      const { volume, errors } = await script(device);
      for (const error of errors) {
        expect(error, `${kind} ${nth}`).toBeInstanceOf(LunfsError);
        expect((error as LunfsError).kind, `${kind} ${nth}: ${(error as Error).stack}`).not.toMatch(/internal|corruption/);
      }
      if (volume !== undefined) {
        // A read can be part of a write of data that the journal waits for.
        if (kind === 'read') heal();
        if (volume.readOnlyReason !== undefined) await expectReadOnly(volume);
        heal();
        await volume.unmount();
      } else heal();
      await expectSound(device);
    }
  });
});

test('the verifier tells a block that it could not read', { timeout: 120_000 }, async () => {
  const { volume } = await script(fresh.clone());
  await volume!.unmount();
  const filled = volume!.device as MemoryDevice;
  let reads = 0;
  const counting = new FaultyDevice(filled, { random: new Random(1), latency: () => {
    reads++;
    return 0;
  } });
  expect((await checkVolume(counting)).clean).toBe(true);
  expect(reads).toBeGreaterThan(20);
  for (let nth = 0; nth < reads; nth++) {
    const device = new FaultyDevice(filled, { random: new Random(1) });
    device.fail({ operations: ['read'], after: nth, times: 1 });
    const end = await checkVolume(device).then(({ findings }) => findings.map(({ code }) => code), (error: unknown) => error);
    if (Array.isArray(end)) expect(end, `read ${nth}`).toContain('UNREADABLE');
    else expect(end, `read ${nth}`).toBeInstanceOf(IoError);
  }
});
