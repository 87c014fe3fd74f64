/**
 * Hundreds of operations at once on names of one directory: each returns what it would if they had come one after the
 * other, in an order that fits when each began and ended (support/linearizable.ts); nobody waits in a circle
 * (support/lock-graph.ts); the volume is sound after it. LUNFS_SEED=… repeats a run.
 */
import { LunfsError, Random } from '@lunfs/device';
import { expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { History, type Specification } from '../support/linearizable.js';
import { LockGraph } from '../support/lock-graph.js';
import { MEMBERS, type Member, company } from '../support/members.js';
import { FILE, bytes, text } from '../volume/support.js';

const NAMES = ['a', 'b', 'c'] as const;
type Name = (typeof NAMES)[number];
/** Inode of each name; 0: no such name. */
type Names = Readonly<Record<Name, number>>;

/** What was asked of a group of three names, and what came back: an inode, or an error. */
type Io =
  | { readonly do: 'create' | 'lookup'; readonly name: Name; readonly got: number | string }
  | { readonly do: 'unlink'; readonly name: Name; readonly got: string | undefined }
  | { readonly do: 'rename'; readonly name: Name; readonly to: Name; readonly got: string | undefined }
  | { readonly do: 'link'; readonly ino: number; readonly to: Name; readonly got: string | undefined }
  | { readonly do: 'list'; readonly got: Names };

const GROUP: Specification<Names, Io> = {
  initial: { a: 0, b: 0, c: 0 },
  looks: (io) => io.do === 'lookup' || io.do === 'list' || (io.do === 'create' ? typeof io.got === 'string' : io.got !== undefined),
  key: (names) => NAMES.map((name) => names[name]).join(' '),
  step(names, io) {
    switch (io.do) {
      case 'create':
        if (typeof io.got === 'string') return io.got === 'EEXIST' && names[io.name] !== 0 ? names : undefined;
        return names[io.name] === 0 ? { ...names, [io.name]: io.got } : undefined;
      case 'lookup':
        return (typeof io.got === 'string' ? io.got === 'ENOENT' && names[io.name] === 0 : names[io.name] === io.got) ? names : undefined;
      case 'unlink':
        if (io.got !== undefined) return io.got === 'ENOENT' && names[io.name] === 0 ? names : undefined;
        return names[io.name] === 0 ? undefined : { ...names, [io.name]: 0 };
      case 'rename':
        if (io.got !== undefined) return io.got === 'ENOENT' && names[io.name] === 0 ? names : undefined;
        if (names[io.name] === 0) return undefined;
        return names[io.name] === names[io.to] ? names : { ...names, [io.to]: names[io.name], [io.name]: 0 };
      case 'link': {
        const gone = !NAMES.some((name) => names[name] === io.ino), taken = names[io.to] !== 0;
        if (io.got !== undefined) return (io.got === 'EEXIST' && taken) || (io.got === 'ENOENT' && gone) ? names : undefined;
        return gone || taken ? undefined : { ...names, [io.to]: io.ino };
      }
      case 'list':
        return NAMES.every((name) => names[name] === io.got[name]) ? names : undefined;
    }
  },
};

async function errno(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    if (error instanceof LunfsError && error.kind === 'usage') return error.errno;
    throw error;
  }
}

class User {
  constructor(private readonly random: Random, private readonly history: History<Io>, private readonly dir: number, private readonly groups: number) {}

  async act({ names }: Member): Promise<void> {
    const { random, history, dir } = this;
    const group = random.int(this.groups), name = random.pick(NAMES), other = random.pick(NAMES.filter((n) => n !== name));
    const full = (n: Name): Uint8Array => bytes(`${group}-${n}-${'x'.repeat(group % 90)}`);
    const begin = history.now();
    const note = (io: Io): void => history.note(`group ${group}`, begin, history.now(), io);
    const inode = async (work: Promise<{ readonly blkno: number }>): Promise<number | string> => {
      let found = 0;
      const failed = await errno(work.then(({ blkno }) => (found = blkno)));
      return failed ?? found;
    };
    const kind = random.int(20);
    if (kind < 6) {
      const got = await inode(names.create(dir, full(name), FILE));
      note({ do: 'create', name, got });
      if (typeof got === 'number') await names.forget(got);
    } else if (kind < 9) {
      const got = await inode(names.lookup(dir, full(name)));
      note({ do: 'lookup', name, got });
      if (typeof got === 'number') await names.forget(got);
    } else if (kind < 13) note({ do: 'unlink', name, got: await errno(names.unlink(dir, full(name))) });
    else if (kind < 16) note({ do: 'rename', name, to: other, got: await errno(names.rename({ oldDir: dir, oldName: full(name), newDir: dir, newName: full(other) })) });
    else if (kind < 19) {
      // By number, while a reference keeps it from being another file's.
      const ino = await inode(names.lookup(dir, full(name)));
      note({ do: 'lookup', name, got: ino });
      if (typeof ino === 'string') return;
      const linking = history.now();
      const got = await errno(names.link(ino, dir, full(other)));
      history.note(`group ${group}`, linking, history.now(), { do: 'link', ino, to: other, got });
      await names.forget(ino, got === undefined ? 2 : 1);
    } else {
      const { entries } = await names.readdir(dir, 0, 1e6);
      const end = history.now();
      const found = new Map(entries.map((e) => [text(e.name), e.blkno]));
      for (let g = 0; g < this.groups; g++) {
        const at = (n: Name): number => found.get(`${g}-${n}-${'x'.repeat(g % 90)}`) ?? 0;
        history.note(`group ${g}`, begin, end, { do: 'list', got: { a: at('a'), b: at('b'), c: at('c') } });
      }
    }
  }
}

const SIZES = { 'local locks': { users: 200, calls: 10 }, 'hostile locks': { users: 30, calls: 8 }, 'two members': { users: 60, calls: 8 } } as const;

test.each(MEMBERS)('names of one directory, %s', { timeout: 300_000 }, async (kind) => {
  const random = new Random(seed(`names at once, ${kind}`));
  const { members, end } = await company(kind, random.fork());
  const { users, calls } = SIZES[kind];
  const dir = (await members[0].names.create(members[0].names.root, bytes('dir'), { mode: 0o040755, uid: 0, gid: 0 })).blkno;
  const history = new History<Io>();
  const graph = new LockGraph();
  const stop = graph.watch();
  await Promise.all(Array.from({ length: users }, async (_, i) => {
    const user = new User(random.fork(), history, dir, users >> 1);
    for (let n = 0; n < calls; n++) await user.act(members[i % members.length]);
  }));
  stop();
  expect(history.calls).toBeGreaterThan(users * calls);
  expect(history.expectLinearizable(GROUP)).toBeLessThan(users / 20);
  if (kind !== 'local locks') expect(graph.waits).toBeGreaterThan(100);
  graph.expectNoCircle();
  await end();
});
