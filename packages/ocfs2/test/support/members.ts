/**
 * Members of a volume in one process, for tests of what happens at once: one with locks that are granted at once, one whose
 * every lock is wanted back, or two with a slot, a journal and a cache each over one lock manager.
 */
import type { MemoryDevice, Random } from '@lunfs/device';
import { closeLocalAlloc, flushTruncateLog } from '../../src/alloc/index.js';
import type { FsContext } from '../../src/context.js';
import { LocalDlm, MemoryDlm } from '../../src/locking/index.js';
import { Namespace, flushAllTimes, recoverOrphans } from '../../src/volume/index.js';
import { openTestContext } from './context.js';
import { slowDevice } from './crash.js';
import { hostileDlm } from './locks.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from './volume.js';

export interface Member {
  readonly ctx: FsContext;
  readonly names: Namespace;
}

export const MEMBERS = ['local locks', 'hostile locks', 'two members'] as const;

export interface Company {
  readonly members: readonly Member[];
  /** Close all of them; the volume must be clean then. */
  end(): Promise<void>;
}

export async function company(kind: (typeof MEMBERS)[number], random: Random): Promise<Company> {
  const device = await makeVolume(GEOMETRIES[1]);
  const slow = slowDevice(device, random.fork());
  const defer = (fn: () => void): void => (random.chance(0.8) ? queueMicrotask(fn) : void setImmediate(fn));
  const dlm = kind === 'local locks' ? new LocalDlm() : kind === 'hostile locks' ? hostileDlm(() => random.float()) : new MemoryDlm({ defer, pick: (n) => random.int(n) });
  const slots = kind === 'two members' ? [0, 1] : [0];
  const members: Member[] = [];
  for (const slot of slots) {
    const ctx = await openTestContext(slow, { slot, seed: random.u32(), dlm, journal: true, cacheBlocks: 300 });
    members.push({ ctx, names: new Namespace(ctx) });
  }
  const end = async (): Promise<void> => {
    for (const { ctx, names } of members) {
      await names.inodes.forgetAll();
      await flushAllTimes(ctx);
      await closeLocalAlloc(ctx);
      await flushTruncateLog(ctx);
      await ctx.engine.log.flush();
    }
    await finish(slow.snapshot());
  };
  return { members, end };
}

/** What another member had in use when its last name went is left to whoever has the volume to itself. */
async function finish(device: MemoryDevice): Promise<void> {
  const ctx = await openTestContext(device, { hostile: false });
  const { left, errors } = await recoverOrphans(ctx, [0, 1], () => Promise.reject(new Error('no dio- entry')));
  if (left > 0 || errors.length > 0) throw new Error(`${left} orphans are left`, { cause: errors.at(0) });
  await flushTruncateLog(ctx);
  await ctx.engine.log.flush();
  await expectFsckClean(device);
}
