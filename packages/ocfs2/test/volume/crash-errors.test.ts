/**
 * A device that fails one request (EIO), any one: whoever waits for it learns of it, nothing hangs, nothing that was
 * promised is lost, and after a power failure and a new mount the volume is sound. LUNFS_SEED=… repeats a run,
 * LUNFS_THOROUGH=1 fails every request of the scripts in turn.
 */
import { type FaultyOperation, LunfsError, Random } from '@lunfs/device';
import { afterAll, describe, expect, test } from 'vitest';
import { checkVolume } from '../../src/check/index.js';
import { Volume } from '../../src/volume/index.js';
import { seed } from '../../../../test/support/temp.js';
import { CRASH_VOLUMES, type CrashVolume, MAY_BE_LEFT, expectAllowed, poisonedVolume, quietMount, record, slowDevice } from '../support/crash.js';
import { SCRIPTS } from '../support/crash-scripts.js';
import { Posix, type Step, readTree } from '../support/posix.js';

const THOROUGH = process.env.LUNFS_THOROUGH === '1';
const SEED = seed('failing devices');
const KINDS: readonly FaultyOperation[] = ['read', 'write', 'flush', 'zero'];
const sums = { runs: 0, failed: 0, readOnly: 0 };

afterAll(() => {
  console.log(`failing devices: ${sums.runs} runs, in ${sums.failed} a step failed, in ${sums.readOnly} the volume went read-only`);
});

interface Outcome {
  /** The step that failed; 0: the mount; one past the last: the unmount; undefined: none did. */
  readonly failed?: number;
  readonly durable: number;
  readonly error?: unknown;
}

/** Run a script to its first failure. */
async function runUntilFailure(script: readonly Step[], mount: () => Promise<Volume>, opened: (volume: Volume) => void): Promise<Outcome> {
  let step = 0, durable = 0;
  try {
    const volume = await mount();
    opened(volume);
    const posix = await Posix.begin(volume);
    for (step = 1; step <= script.length; step++) if ((await posix.run(script[step - 1], step)) === 'durable') durable = step;
    await volume.unmount();
    return { durable: script.length };
  } catch (error) {
    return { failed: step, durable, error };
  }
}

async function failOne(spec: CrashVolume, script: readonly Step[], states: Awaited<ReturnType<typeof record>>['states'], kind: FaultyOperation, nth: number): Promise<void> {
  const random = new Random(SEED + nth);
  const device = slowDevice(await poisonedVolume(spec), random);
  device.fail({ operations: [kind], after: nth, times: 1 });
  let volume: Volume | undefined;
  const { failed, durable, error } = await runUntilFailure(script, () => Volume.mount(device, quietMount(SEED)), (v) => { volume = v; });
  sums.runs++;
  if (failed !== undefined) {
    sums.failed++;
    expect(error).toBeInstanceOf(LunfsError);
    expect((error as LunfsError).kind).not.toBe('internal');
  }
  if (volume?.readOnlyReason !== undefined) {
    sums.readOnly++;
    // Whoever asks for durability now must not be told that all is well; a reader is still served; the end does not hang.
    await expect(volume.sync()).rejects.toMatchObject({ code: 'JOURNAL_ABORTED' });
    await expect(volume.names.create(volume.names.root, Buffer.from('late'), { mode: 0o100644, uid: 0, gid: 0 })).rejects.toBeInstanceOf(LunfsError);
    await volume.names.statistics();
    await volume.unmount();
  }
  device.crash();
  const again = await Volume.mount(device, quietMount(SEED));
  const last = Math.min(failed ?? script.length, script.length);
  expectAllowed({ states, script }, await readTree(again), { marks: [`durable ${durable}`, `begin ${last}`], seed: 0 });
  await again.unmount();
  expect((await checkVolume(device.snapshot())).findings.filter((f) => !MAY_BE_LEFT.includes(f.code))).toEqual([]);
}

/** Requests of each kind that a whole run makes. */
async function countRequests(spec: CrashVolume, script: readonly Step[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const device = slowDevice(await poisonedVolume(spec), new Random(SEED), 3, (operation) => {
    counts[operation] = (counts[operation] ?? 0) + 1;
  });
  expect(await runUntilFailure(script, () => Volume.mount(device, quietMount(SEED)), () => undefined)).toEqual({ durable: script.length });
  return counts;
}

test('what was done before a corrupt block turned up is not lost with the volume read-only', async () => {
  for (const end of ['sync', 'unmount'] as const) {
    const device = await poisonedVolume(CRASH_VOLUMES[0]);
    const look = await Volume.mount(device, quietMount(1));
    const { blkno } = await look.names.lookup(look.names.root, Buffer.from('lost+found'));
    await look.unmount();
    device.writeSync(blkno * look.geo.blockSize, new Uint8Array(512));
    const volume = await Volume.mount(device, quietMount(1));
    await volume.names.create(volume.names.root, Buffer.from('before'), { mode: 0o100644, uid: 0, gid: 0 });
    await expect(volume.names.readdir(blkno)).rejects.toMatchObject({ kind: 'corruption' });
    await expect(volume.names.create(volume.names.root, Buffer.from('after'), { mode: 0o100644, uid: 0, gid: 0 })).rejects.toMatchObject({ kind: 'corruption' });
    await volume[end]();
    const again = await Volume.mount(device.clone(), quietMount(1));
    expect((await again.names.lookup(again.names.root, Buffer.from('before'))).links).toBe(1);
  }
});

const SMALL = SCRIPTS.filter(({ name }) => ['files', 'names', 'space'].includes(name));

describe.each(CRASH_VOLUMES.filter((_, i) => [0, 1, 4].includes(i)).map((spec) => [spec.name, spec] as const))('%s', { timeout: 3_600_000 }, (_, spec) => {
  test.each(SMALL.map(({ name, steps }) => [name, steps] as const))('one request of %s fails', async (_name, steps) => {
    const script = steps({ size: spec.size, blockSize: spec.mkfs.blockSize!, clusterSize: spec.mkfs.clusterSize! });
    const { states } = await record(spec, script, SEED);
    const counts = await countRequests(spec, script);
    const random = new Random(SEED);
    for (const kind of KINDS) {
      const all = Array.from({ length: counts[kind] ?? 0 }, (_request, i) => i);
      for (const nth of THOROUGH ? all : random.shuffle(all).slice(0, 16)) {
        try {
          await failOne(spec, script, states, kind, nth);
        } catch (error) {
          throw new Error(`LUNFS_SEED=${SEED}, ${kind} number ${nth}: ${(error as Error).message}`, { cause: error });
        }
      }
    }
  });
});
