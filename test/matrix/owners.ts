/** Files of many owners on a volume of the matrix, with limits where it has quota. */
import { LunfsError } from '@lunfs/device';
import { asRequester } from '@lunfs/ocfs2';
import type { Site } from './site.js';

/** Whoever owns something, here and in changes.pl. */
export const IDS = [0, 5, 6, 1000, 1001, 1002, 1003, 1004, 1005, 2000, 2001, 70_000, 4_000_000_000];

export async function fillOwners(site: Site, top: string): Promise<void> {
  const { tree, cluster } = site;
  const { quota } = tree.volume;
  await tree.mkdir(top);
  for (let i = 0; i < 24; i++) {
    await tree.create(`${top}/file-${i}`, site.bytes(i % 4 === 0 ? Math.min(2 * cluster, 100_000) : 20));
    await tree.change(`${top}/file-${i}`, { uid: IDS[3 + (i % 6)], gid: IDS[9 + (i % 4)] });
  }
  await tree.mkdir(`${top}/limited`);
  await tree.change(`${top}/limited`, { uid: 1005 });
  if (quota === undefined) return;
  for (const type of quota.types) {
    await quota.setLimits(type, 1000, { spaceSoft: 500 * 1024, spaceHard: 2 ** 30, inodeHard: 1000 });
    await quota.setLimits(type, 70_000, { inodeSoft: 3 });
  }
  if (!quota.types.includes('user')) return;
  // What passes a limit leaves no trace.
  const before = JSON.stringify(await quota.report('user'));
  const { inodes } = (await quota.report('user')).find(({ id }) => id === 1005)!;
  await quota.setLimits('user', 1005, { inodeHard: inodes + 1 });
  const create = async (name: string) => {
    const dir = await tree.resolve(`${top}/limited`);
    const { blkno } = await tree.volume.names.create(dir, Buffer.from(name), { mode: 0o100644, uid: 1005, gid: 2000 });
    await tree.volume.names.forget(blkno);
  };
  await asRequester({ uid: 1005 }, () => create('the last'));
  const error: unknown = await asRequester({ uid: 1005 }, () => create('one too many')).then(() => undefined, (reason: unknown) => reason);
  if (!(error instanceof LunfsError) || error.errno !== 'EDQUOT') throw new Error(`creating beyond the limit: ${String(error)}`);
  await tree.unlink(`${top}/limited/the last`);
  await quota.setLimits('user', 1005, { inodeHard: 0 });
  const after = JSON.stringify(await quota.report('user'));
  if (after !== before) throw new Error(`a limit that was met left a trace: ${before} became ${after}`);
}

export async function changeOwners(site: Site): Promise<void> {
  const { tree } = site;
  for (let i = 3; i < 24; i += 3) await tree.change(`ours/owners/file-${i}`, { uid: 1002, gid: 2001 });
  for (let i = 1; i < 24; i += 3) await tree.unlink(`ours/owners/file-${i}`);
  await tree.change('theirs/owned', { uid: 1003 });
  await tree.write('theirs/owned', 'append', site.bytes(30_000));
}
