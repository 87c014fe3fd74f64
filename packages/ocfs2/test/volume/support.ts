/** A name space over a test volume, with the names as text. */
import type { MemoryDevice } from '@lunfs/device';
import { expect } from 'vitest';
import type { FsContext } from '../../src/context.js';
import { MODE } from '../../src/format/index.js';
import type { Attributes } from '../../src/volume/attributes.js';
import type { NewInode } from '../../src/volume/namespace.js';
import { recoverOrphans } from '../../src/volume/inode-life.js';
import { Namespace } from '../../src/volume/namespace-volume.js';
import { type TestContextOptions, openTestContext } from '../support/context.js';
import { HOSTILE } from '../support/locks.js';
import type { NamedVolume } from '../support/volume.js';

/** A volume without any feature: no inline data, no indexed directories. */
export const PLAIN: NamedVolume = { name: 'plain', size: 100 << 20, mkfsArgs: ['-b', '4096', '-C', '8192', '-N', '2', '-J', 'size=4M', '--fs-feature-level=max-compat'] };

export const bytes = (text: string): Uint8Array => Buffer.from(text, 'utf8');
export const text = (name: Uint8Array): string => Buffer.from(name).toString('utf8');

export const FILE: NewInode = { mode: MODE.REG | 0o644, uid: 1000, gid: 1000 };
export const DIR: NewInode = { mode: MODE.DIR | 0o755, uid: 1000, gid: 1000 };
export const device = (rdev: number): NewInode => ({ mode: MODE.CHR | 0o644, uid: 1000, gid: 1000, rdev });
export const symlink = (target: string): NewInode => ({ mode: MODE.LNK | 0o777, uid: 1000, gid: 1000, target: bytes(target) });

export class Names {
  constructor(readonly ctx: FsContext, readonly ns: Namespace) {}

  static async open(device: MemoryDevice, options?: TestContextOptions): Promise<Names> {
    const ctx = await openTestContext(device, options);
    return new Names(ctx, new Namespace(ctx));
  }

  /** Create and hold no reference. */
  async create(dir: number, name: string, spec: NewInode = FILE): Promise<Attributes> {
    const made = await this.ns.create(dir, bytes(name), spec);
    await this.ns.forget(made.blkno);
    return made;
  }

  async lookup(dir: number, name: string): Promise<Attributes> {
    const found = await this.ns.lookup(dir, bytes(name));
    await this.ns.forget(found.blkno);
    return found;
  }

  /** Every entry of a directory, read `step` at a time: name to inode. */
  async list(dir: number, step = 100): Promise<Map<string, number>> {
    const all = new Map<string, number>();
    for (let position = 0, end = false; !end; ) {
      const part = await this.ns.readdir(dir, position, step);
      for (const { name, blkno, next } of part.entries) {
        if (all.has(text(name))) throw new Error(`"${text(name)}" returned twice`);
        all.set(text(name), blkno);
        position = next;
      }
      end = part.end;
    }
    return all;
  }
}

/** On the hostile pass: wipe what another node seemed to have in use, as the next mount does that has the volume to itself. */
export async function settle(device: MemoryDevice): Promise<void> {
  if (!HOSTILE) return;
  const { ctx, ns } = await Names.open(device, { hostile: false });
  expect(await recoverOrphans(ctx, ctx.sys.orphanDir.map((_, slot) => slot), () => Promise.reject(new Error('no dio- entry')), ns.inodes)).toMatchObject({ left: 0, errors: [] });
  await ctx.engine.log.flush();
}
