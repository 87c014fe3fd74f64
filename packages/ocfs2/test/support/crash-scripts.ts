/** Scripts for crash tests: each leads through one part of the engine, with promises of durability in between. */
import type { Random } from '@lunfs/device';
import type { Step } from './posix.js';

const sync: Step = { do: 'sync' }, tick: Step = { do: 'tick' }, ack: Step = { do: 'ack' };
const create = (path: string): Step => ({ do: 'create', path });
const mkdir = (path: string): Step => ({ do: 'mkdir', path });
const unlink = (path: string): Step => ({ do: 'unlink', path });
const rmdir = (path: string): Step => ({ do: 'rmdir', path });
const rename = (path: string, to: string): Step => ({ do: 'rename', path, to });
const write = (path: string, at: number | 'append', length: number): Step => ({ do: 'write', path, at, length });
const trim: Step = { do: 'trim' };
const reflink = (path: string, to: string): Step => ({ do: 'reflink', path, to });
const truncate = (path: string, size: number): Step => ({ do: 'truncate', path, size });
const fsync = (path: string): Step => ({ do: 'fsync', path });
const change = (path: string, what: (Step & { do: 'change' })['change']): Step => ({ do: 'change', path, change: what });
const set = (path: string, name: string, size: number, mode?: 'create' | 'replace'): Step => ({ do: 'setxattr', path, name, size, mode });
const remove = (path: string, name: string): Step => ({ do: 'removexattr', path, name });
const acl = (path: string, which: 'access' | 'default', bits: number): Step => ({ do: 'acl', path, which, bits });
const share = (path: string, from: number, to: string, at: number, length: number): Step => ({ do: 'share', path, from, to, at, length });
const limit = (id: number, limits: (Step & { do: 'limits' })['limits'], type: 'user' | 'group' = 'user'): Step => ({ do: 'limits', type, id, limits });
const times = (n: number, step: (i: number) => Step | Step[]): Step[] => Array.from({ length: n }, (_, i) => step(i)).flat();

export interface NamedScript {
  readonly name: string;
  readonly steps: (volume: { readonly blockSize: number; readonly clusterSize: number; readonly size: number }) => Step[];
}

export const SCRIPTS: readonly NamedScript[] = [
  {
    name: 'files',
    steps: ({ clusterSize: c }) => [
      create('a'), write('a', 0, 100), fsync('a'), write('a', 100, 5000), write('a', 50, 300), tick,
      create('b'), write('b', 0, 3 * c + 100), fsync('b'), write('b', 700, 2 * c), write('b', 'append', 900), ack,
      write('b', 6 * c + 17, 1000), tick, truncate('b', c + 5), write('b', c + 900, 10), fsync('b'),
      truncate('b', 5 * c), write('b', 4 * c, 100), truncate('b', 10), sync,
      create('c'), write('c', 2 * c, 2 * c), unlink('a'), write('c', 0, c), fsync('c'), truncate('c', 0), write('c', 'append', 64), tick,
      write('b', 5, c), unlink('b'), create('d'), write('d', 0, 4 * c), fsync('d'),
    ],
  },
  {
    name: 'names',
    steps: () => [
      mkdir('d'), create('d/f'), fsync('d/f'), mkdir('d/e'), { do: 'symlink', path: 'l', target: 'd/f' }, { do: 'symlink', path: 'long', target: 'x/'.repeat(1900) }, ack,
      { do: 'link', path: 'd/f', to: 'g' }, rename('d/f', 'd/h'), tick, rename('d/h', 'd/e/h'), sync, rename('d/e/h', 'g'), write('g', 0, 10),
      create('o'), write('o', 0, 9000), rename('g', 'o'), tick, mkdir('k'), mkdir('k/m'), rename('d/e', 'k/m'), fsync('o'), rename('d', 'k/n'), rename('k/n', 'n'), ack,
      { do: 'open', path: 'o', as: 'o' }, unlink('o'), write('#o', 'append', 20_000), tick, create('p'), rename('p', 'q'), sync, { do: 'close', as: 'o' },
      unlink('long'), rename('l', 'q'), rmdir('k/m'), rmdir('k'), tick, unlink('q'), rmdir('n'), rmdir('lost+found'), sync, unlink('g'),
    ],
  },
  {
    // What stat shows, of every kind of file: created with it, changed, and changed again under other operations.
    name: 'attributes',
    steps: ({ clusterSize: c }) => [
      { do: 'mknod', path: 'dev', rdev: 0x103 }, create('f'), change('f', { mode: 0o600 }), fsync('f'), change('dev', { uid: 7, gid: 8 }), ack, mkdir('d'), change('d', { mode: 0o1777, gid: 5 }),
      write('f', 0, 300), change('f', { atime: { sec: 1_234_567, nsec: 89 } }), tick, { do: 'symlink', path: 'l', target: 'f' }, change('l', { uid: 9 }), write('f', c, 2 * c), change('f', { uid: 70_000, gid: 0xfffffffe, mode: 0o711 }),
      { do: 'link', path: 'f', to: 'd/f' }, fsync('f'), change('d/f', { atime: { sec: 2_000_000_000, nsec: 0 } }), truncate('f', 10), tick, rename('dev', 'd/dev'), change('d/dev', { mode: 0o666 }), sync,
      { do: 'open', path: 'f', as: 'f' }, unlink('f'), unlink('d/f'), change('#f', { mode: 0o444, uid: 1 }), write('#f', 'append', 5000), { do: 'mknod', path: 'd/n', rdev: 0 }, rename('d/n', 'd/dev'), tick,
      ...times(12, (i) => change(i % 2 ? 'd' : 'd/dev', { mode: 0o700 + i, uid: i })), ack, { do: 'close', as: 'f' }, unlink('d/dev'), rmdir('d'), sync, unlink('l'),
    ],
  },
  {
    name: 'space',
    steps: ({ clusterSize: c }) => [
      create('f'), { do: 'reserve', path: 'f', at: 0, length: 8 * c }, write('f', c, 100), fsync('f'), { do: 'reserve', path: 'f', at: 8 * c, length: 4 * c, keep: true },
      write('f', 3 * c - 50, 100), tick, { do: 'punch', path: 'f', at: c, length: c }, { do: 'punch', path: 'f', at: 2 * c + 100, length: c + 300 }, ack,
      write('f', 0, 6 * c), { do: 'zero', path: 'f', at: 100, length: 2 * c }, fsync('f'), write('f', 'append', 2 * c), { do: 'punch', path: 'f', at: 0, length: 7 * c }, tick,
      create('g'), write('g', 0, 5 * c), { do: 'release' }, trim, { do: 'zero', path: 'f', at: 9 * c, length: 8 * c, keep: true }, sync, { do: 'reserve', path: 'f', at: 100, length: 20 * c }, truncate('f', 15 * c), tick, trim, unlink('f'), trim, create('h'), write('h', 0, 9 * c), ack, unlink('g'), sync, trim, write('h', c, 9 * c),
    ],
  },
  {
    // Every other cluster: a record each, so the tree leaves the dinode, splits leaves (small blocks), shrinks and goes.
    name: 'tree',
    steps: ({ clusterSize: c, blockSize }) => {
      const n = c > 65536 ? 8 : blockSize <= 1024 ? 70 : 250;
      return [
        create('f'), ...times(n, (i) => [write('f', 2 * i * c, 8), ...(i % 40 === 7 ? [i % 80 === 7 ? tick : fsync('f')] : [])]), sync,
        ...times(Math.min(n - 1, 12), (i) => write('f', (2 * i + 1) * c, 5)), tick, truncate('f', n * c), fsync('f'),
        { do: 'punch', path: 'f', at: 3 * c, length: c }, { do: 'reserve', path: 'f', at: 0, length: n * c }, tick, { do: 'release' }, unlink('f'), sync,
      ];
    },
  },
  {
    // Clusters shared by two and three, copied on write, left alone and written in place, punched, cut, and freed with their last user.
    name: 'clones',
    steps: ({ clusterSize: c }) => [
      create('a'), write('a', 0, 5 * c + 100), fsync('a'), reflink('a', 'b'), tick, write('b', c + 10, 20), write('a', 2 * c + 500, c), ack, reflink('b', 'd'), fsync('d'),
      write('a', 0, 300), { do: 'punch', path: 'b', at: 100, length: 3 * c }, tick, truncate('d', 2 * c + 7), write('d', 'append', 900), unlink('a'), write('b', 4 * c, 50), write('b', 4 * c + 60, 50), tick,
      reflink('d', 'a'), write('d', 5, 2 * c), write('a', 9, c), fsync('a'), { do: 'zero', path: 'a', at: 10, length: c }, reflink('b', 'e'), unlink('b'), write('e', 3 * c, 2 * c), ack, reflink('e', 'a'),
      { do: 'open', path: 'd', as: 'd' }, unlink('d'), reflink('#d', 'f'), write('#d', 0, 10), tick, { do: 'close', as: 'd' }, write('f', 0, 20), sync, truncate('e', 0), unlink('f'), { do: 'release' }, unlink('e'),
    ],
  },
  {
    // A refcount tree that outgrows its root (small blocks) and shrinks back.
    name: 'refcounts',
    steps: ({ clusterSize: c, blockSize }) => {
      const n = c > 65536 ? 6 : blockSize <= 1024 ? 64 : 16;
      return [
        create('a'), { do: 'reserve', path: 'a', at: 0, length: n * c }, write('a', c, 3000), reflink('a', 'b'), sync,
        ...times(n / 2, (i) => [{ do: 'punch', path: 'b', at: 2 * i * c, length: c } as const, ...(i % 12 === 5 ? [tick] : [])]), fsync('b'), reflink('b', 'd'), tick,
        ...times(4, (i) => write('d', (2 * i + 1) * c + 50, 10)), unlink('a'), ack, write('b', c, 2 * c), truncate('d', Math.floor(n / 2) * c), sync, unlink('b'), tick, { do: 'release' }, unlink('d'), sync,
      ];
    },
  },
  {
    // Attributes in the inode, in a block, in buckets, in a tree of them (small blocks), values outside; and all the way back.
    name: 'xattrs',
    steps: ({ clusterSize: c, blockSize }) => {
      const big = Math.min(2 * c + 300, 60_000), n = blockSize <= 512 ? 380 : 60;
      const name = (i: number) => `user.${String(i).padStart(3, '0')}${'n'.repeat(180)}`;
      return [
        create('f'), set('f', 'user.a', 20), fsync('f'), set('f', 'user.a', 60, 'replace'), set('f', 'security.selinux', 30), ack, set('f', 'trusted.empty', 0, 'create'), set('f', 'user.b', 75), tick,
        set('f', 'user.c', 79), write('f', 0, 100), set('f', 'user.big', big), fsync('f'), set('f', 'user.big', 10), tick, set('f', 'user.big', Math.min(c + 1, 5000)), remove('f', 'user.a'), sync,
        create('g'), set('g', 'user.only', big), write('g', 0, 3 * c), reflink('g', 'clone'), tick, remove('clone', 'user.only'), unlink('g'), set('clone', 'user.x', 300), fsync('clone'),
        mkdir('d'), set('d', 'user.d', 300), ...times(n, (i) => [set('f', name(i), i % 9 === 0 ? 200 : 70), ...(i % 20 === 7 ? [i % 40 === 7 ? tick : fsync('f')] : [])]), sync,
        reflink('f', 'of many'), ack, ...times(n / 10, (i) => set('f', name(10 * i), 500, 'replace')), ...times(n / 2, (i) => [remove('f', name(2 * i)), ...(i % 20 === 3 ? [tick] : [])]), unlink('of many'), { do: 'release' }, ack,
        set('clone', 'security.capability', 20), fsync('clone'), { do: 'uncap', path: 'clone' }, write('clone', 0, 10), tick, ...times(n / 2, (i) => remove('f', name(2 * i + 1))), remove('f', 'user.big'), sync,
        set('f', 'user.last', big), { do: 'open', path: 'f', as: 'f' }, unlink('f'), set('#f', 'user.more', 100), tick, { do: 'close', as: 'f' }, remove('d', 'user.d'), rmdir('d'), unlink('clone'), { do: 'release' }, sync,
      ];
    },
  },
  {
    // Mode and ACL change together; what is made below a default ACL has both from the first moment on.
    name: 'acls',
    steps: ({ clusterSize: c }) => [
      mkdir('d'), acl('d', 'access', 0o750), fsync('d'), acl('d', 'default', 0o770), create('d/f'), write('d/f', 0, 50), fsync('d/f'), mkdir('d/e'), change('d/f', { mode: 0o640 }), tick, create('d/e/g'), { do: 'mknod', path: 'd/e/n', rdev: 5 },
      acl('d/e/g', 'access', 0o604), change('d/e/g', { mode: 0o4755 }), ack, set('d/f', 'user.more', 200), change('d/f', { mode: 0o600, uid: 8 }), write('d/f', c, c), reflink('d/f', 'd/clone'), tick, remove('d/f', 'system.posix_acl_access'),
      change('d/f', { mode: 0o777 }), acl('d/e', 'default', 0o500), { do: 'symlink', path: 'd/l', target: 'f' }, mkdir('d/e/deep'), fsync('d/f'), rename('d/e/deep', 'deep'), create('deep/x'), acl('d', 'access', 0o700), change('d', { mode: 0o1777 }), tick,
      remove('d', 'system.posix_acl_default'), create('d/plain'), { do: 'flags', path: 'd/plain', flags: 0x80 }, { do: 'flags', path: 'd', flags: 0x40 }, { do: 'list', path: 'd' }, { do: 'list', path: 'd/e' }, sync, unlink('d/e/g'), unlink('d/e/n'), rmdir('d/e'),
    ],
  },
  {
    // Ranges shared between files (copy_file_range), written to from either side, by exports and through thick files.
    name: 'sharing',
    steps: ({ clusterSize: c }) => [
      create('a'), write('a', 0, 6 * c), create('b'), write('b', 0, 2 * c + 10), fsync('a'), share('a', c, 'b', 4 * c, 3 * c), tick, write('b', 5 * c + 3, 100), write('a', 2 * c, c), ack, share('a', 0, 'b', 0, 2 * c), fsync('b'),
      create('e'), share('b', 0, 'e', 0, 7 * c), truncate('b', c), write('e', 0, 20), tick, { do: 'punch', path: 'a', at: c, length: 2 * c }, share('e', 0, 'a', 8 * c, 2 * c), sync, share('e', 2 * c, 'a', 0, 3 * c), write('a', 'append', 500),
      { do: 'export', path: 'e', what: 'write', at: 3 * c - 20, length: 60 }, { do: 'export', path: 'e', what: 'trim', at: 0, length: 2 * c }, { do: 'export', path: 'a', what: 'zero', at: c, length: 3 * c }, fsync('a'), unlink('b'), truncate('a', 9 * c), tick,
      create('t'), { do: 'thick', path: 't', size: 5 * c, zeroed: true }, fsync('t'), create('u'), { do: 'thick', path: 'u', size: 3 * c + 7, zeroed: false }, { do: 'export', path: 'u', what: 'write', at: c, length: 700 }, { do: 'map', path: 't', at: c, length: 2 * c }, reflink('t', 'v'), { do: 'map', path: 'v', at: 0, length: 3 * c }, tick,
      { do: 'export', path: 'v', what: 'write', at: 5, length: c }, share('v', 0, 'u', 4 * c, 2 * c), unlink('t'), { do: 'release' }, ack, { do: 'zero', path: 'v', at: c + 9, length: 2 * c }, truncate('u', 0), unlink('e'), unlink('a'), sync, unlink('v'),
    ],
  },
  {
    // Volumes without quota see the same without limits.
    name: 'quota',
    steps: ({ clusterSize: c }) => [
      create('a'), write('a', 0, 3 * c), ack, limit(1000, { spaceSoft: 4 * c, spaceHard: 8 * c, inodeHard: 9 }), create('b'), write('b', 0, 4 * c), fsync('b'), write('b', 'append', 3 * c), change('a', { uid: 1002 }), tick, limit(1002, { inodeSoft: 1 }),
      write('b', 'append', 2 * c), { do: 'syncquota' }, truncate('a', 10), change('b', { gid: 77 }), ack, limit(77, { spaceHard: 6 * c }, 'group'), write('b', 'append', c), { do: 'reserve', path: 'b', at: 0, length: 30 * c }, { do: 'grace', type: 'user', seconds: 100 }, sync,
      ...times(9, (i) => [create(`n${i}`), change(`n${i}`, { uid: 2000 + i, gid: 100 + (i % 2) }), ...(i % 3 === 2 ? [tick] : [])]), limit(1000, { spaceHard: 60 * c }), reflink('b', 'clone'), set('b', 'user.big', 2 * Math.min(c, 20_000)), { do: 'syncquota' }, unlink('b'), fsync('clone'),
      limit(1000, { spaceSoft: 0, spaceHard: 0 }), write('clone', c, 2 * c), mkdir('d'), ...times(9, (i) => rename(`n${i}`, `d/n${i}`)), { do: 'syncquota' }, ack, { do: 'checkpoint' }, { do: 'grace', type: 'group', seconds: 5000 }, limit(1000, { inodeHard: 0 }), limit(77, { spaceHard: 0 }, 'group'),
      ...times(9, (i) => unlink(`d/n${i}`)), rmdir('d'), { do: 'syncquota' }, tick, change('clone', { uid: 1002 }), unlink('a'), sync, limit(1002, { inodeSoft: 0 }), unlink('clone'),
    ],
  },
  {
    // Names so long that few fill a block: inline, one block, indexed, leaves that split, and all the way back.
    name: 'directory',
    steps: ({ blockSize }) => {
      const n = blockSize <= 1024 ? 90 : 60;
      const name = (i: number) => `d/${String(i).padStart(3, '0')}${'n'.repeat(blockSize <= 1024 ? 120 : 235)}`;
      return [
        mkdir('d'), ...times(n, (i) => [create(name(i)), ...(i % 20 === 9 ? [i % 40 === 9 ? tick : sync] : [])]), ack,
        ...times(10, (i) => rename(name(3 * i), `d/r${i}`)), tick, ...times(n, (i) => [unlink(name(i)), ...(i % 25 === 7 ? [fsync('d/r0')] : [])]),
        mkdir('e'), ...times(10, (i) => rename(`d/r${i}`, `e/r${i}`)), rmdir('d'), sync, ...times(10, (i) => unlink(`e/r${i}`)), rmdir('e'),
      ];
    },
  },
  {
    // More inodes than a group of the suballocator holds, and more clusters than a local alloc window.
    name: 'allocators',
    steps: ({ clusterSize: c }) => [
      mkdir('d'), ...times(300, (i) => [create(`d/${i}`), ...(i % 100 === 50 ? [tick] : [])]), sync,
      ...times(6, (i) => [create(`big${i}`), write(`big${i}`, 0, c > 65536 ? 2 * c : 90 * c), ...(i % 2 === 0 ? [tick] : [fsync(`big${i}`)])]),
      ...times(3, (i) => unlink(`big${2 * i}`)), { do: 'release' }, ack, create('again'), write('again', 0, c > 65536 ? 3 * c : 150 * c), tick,
      ...times(40, (i) => unlink(`d/${7 * i}`)), sync, truncate('again', 3 * c), ...times(3, (i) => unlink(`big${2 * i + 1}`)),
    ],
  },
  {
    // On a full volume: blocks that held names and symlinks hold data next, while their old images may still be in the log.
    name: 'reuse',
    steps: ({ clusterSize: c, size }) => [
      // A group of extent blocks for the indexes to come.
      mkdir('first'), ...times(20, (i) => create(`first/${i}${'n'.repeat(240)}`)), ...fillUp({ size, mkfs: { clusterSize: c } }, 12),
      ...times(3, (round) => [
        ...times(5, (i) => ({ do: 'symlink', path: `s${i}`, target: `${round}/`.repeat(2040) })), mkdir('d'), ...times(18, (i) => create(`d/${i}${'n'.repeat(240)}`)), round === 1 ? sync : ack,
        ...times(5, (i) => unlink(`s${i}`)), ...times(18, (i) => unlink(`d/${i}${'n'.repeat(240)}`)), rmdir('d'), tick, { do: 'release' } as const, ack,
        ...times(6, (i) => [create(`f${i}`), write(`f${i}`, 0, 2 * c)]), round === 0 ? fsync('f0') : tick, ...times(6, (i) => unlink(`f${i}`)), { do: 'release' } as const,
      ]), truncate('fill', 10), { do: 'release' },
    ],
  },
];

/** Take all space but about `left` clusters, in a file of no size. */
export function fillUp({ size, mkfs: { clusterSize: c = 4096 } }: { readonly size: number; readonly mkfs: { readonly clusterSize?: number } }, left: number): Step[] {
  const step = Math.ceil(size / c / 64);
  const chunk = (at: number, n: number): Step => ({ do: 'reserve', path: 'fill', at: at * c, length: n * c, keep: true });
  return [
    create('fill'), ...times(64, (i) => chunk(i * step, step)), ...times(step, (i) => chunk(64 * step + i, 1)), { do: 'punch', path: 'fill', at: 0, length: left * c }, { do: 'release' }, sync,
  ];
}

/** Options of `randomSteps`. */
export interface RandomMix {
  /** Largest place in a file, in bytes. */
  readonly reach: number;
  readonly clusterSize: number;
  /** Chance of a step that makes something durable, commits or lets time pass. Default 0.12. */
  readonly promises?: number;
  /** First part of every path, so that several may run side by side. */
  readonly under?: string;
}

/** Where `randomSteps` plays: made first, so that most steps find something. */
export function playground(under = ''): Step[] {
  const dirs = ['d0', 'd1', 'd0/d2', 'd1/d3'].map((d) => under + d);
  return [...dirs.map(mkdir), ...[under, ...dirs.map((d) => `${d}/`)].flatMap((d) => ['a', 'b', 'c'].map((f) => create(d + f)))];
}

/** Any steps, over few names, so that they meet. Ones that make no sense when their turn comes fail as they should. */
export function randomSteps(random: Random, count: number, { reach, clusterSize: c, promises = 0.12, under = '' }: RandomMix): Step[] {
  const dirs = ['', 'd0/', 'd1/', 'd0/d2/', 'd1/d3/'].map((d) => under + d);
  const file = () => random.pick(dirs) + random.pick(['a', 'a', 'b', 'b', 'c', `n${random.int(5)}`, `long-${random.int(2)}-${'€'.repeat(70)}`]);
  const directory = () => random.pick(dirs.slice(0, 3)) + random.pick(['d0', 'd1', 'd2', 'd3']);
  const any = () => (random.chance(0.85) ? file() : directory());
  const data = () => (random.chance(0.15) ? `#${under}${random.int(4)}` : file());
  const at = () => random.pick([random.int(reach), random.int(Math.ceil(reach / c)) * c, random.int(Math.ceil(reach / 512)) * 512, random.int(400), 0]);
  const attribute = () => random.pick(['user.a', 'user.a', 'user.b', 'security.selinux', 'security.capability', `user.${random.int(40)}-${'n'.repeat(random.pick([10, 60, 180]))}`]);
  const size = () => random.pick([0, 10, 70, 79, 80, 81, random.int(600), random.int(600), random.int(Math.min(3 * c, 12_000))]);
  const type = () => random.pick(['user', 'group'] as const), id = () => random.pick([7, 1000, 1002, 70_000]);
  const room = () => random.pick([0, 0, 30 * c, random.int(2 * reach) + 10 * c]), inodes = () => random.pick([0, 0, 10 + random.int(40)]);
  const length = () => 1 + random.pick([random.int(300), random.int(3 * Math.min(c, 65536)), c - 1, 511]);
  const kinds: readonly [number, () => Step][] = [
    [8, () => create(file())], [1, () => ({ do: 'mknod', path: file(), rdev: random.int(1 << 20) })], [3, () => mkdir(directory())], [1, () => ({ do: 'symlink', path: file(), target: 't/'.repeat(1 + random.int(random.chance(0.3) ? 1990 : 20)) })],
    [2, () => ({ do: 'link', path: data(), to: file() })], [2, () => reflink(data(), file())], [4, () => unlink(any())], [1, () => rmdir(any())],
    [5, () => ({ do: 'rename', path: any(), to: any(), noReplace: random.chance(0.2) })],
    [12, () => write(data(), random.chance(0.3) ? 'append' : at(), length())], [4, () => truncate(data(), at())],
    [5, () => ({ do: random.pick(['reserve', 'punch', 'zero'] as const), path: data(), at: at(), length: length(), keep: random.chance(0.4) })],
    [3, () => change(random.chance(0.2) ? any() : data(), random.pick([{ mode: random.int(0o1000) }, { uid: random.int(2 ** 32 - 1), gid: random.int(2 ** 32 - 1) }, { uid: id(), gid: id() }]))],
    [1, () => change(data(), { atime: { sec: random.int(2 ** 34), nsec: random.int(1e9) } })],
    [5, () => set(random.chance(0.2) ? any() : data(), attribute(), size(), random.pick([undefined, undefined, undefined, 'create', 'replace'] as const))], [2, () => remove(random.chance(0.2) ? any() : data(), attribute())],
    [1, () => acl(random.chance(0.5) ? directory() : any(), random.pick(['access', 'default'] as const), random.int(0o1000))], [0.5, () => remove(any(), random.pick(['system.posix_acl_access', 'system.posix_acl_default']))],
    [0.5, () => ({ do: 'uncap', path: data() })], [0.5, () => ({ do: 'flags', path: any(), flags: random.pick([0, 0x40, 0x80]) })], [1, () => ({ do: 'list', path: directory() })],
    [3, () => share(data(), random.int(Math.ceil(reach / c)) * c, data(), random.int(Math.ceil(reach / c)) * c, random.pick([c, 2 * c, length()]))],
    [2, () => ({ do: 'export', path: data(), what: random.pick(['write', 'trim', 'zero'] as const), at: at(), length: length() })], [1, () => ({ do: 'map', path: data(), at: at(), length: length() })], [0.5, () => ({ do: 'thick', path: data(), size: at() + 1, zeroed: random.chance(0.5) })],
    [1, () => limit(id(), random.pick([{ spaceHard: room(), spaceSoft: room() }, { inodeHard: inodes(), inodeSoft: inodes() }]), type())], [0.3, () => ({ do: 'grace', type: type(), seconds: 1 + random.int(100_000) })],
    [1, () => ({ do: 'open', path: any(), as: `${under}${random.int(4)}` })], [1, () => ({ do: 'close', as: `${under}${random.int(4)}` })],
  ];
  const total = kinds.reduce((sum, [weight]) => sum + weight, 0);
  const promise = (): Step => random.pick([sync, tick, tick, ack, fsync(data()), fsync(data()), { do: 'release' }, { do: 'checkpoint' }, { do: 'syncquota' }, trim] as const);
  return Array.from({ length: count }, () => {
    if (random.chance(promises)) return promise();
    let dice = random.float() * total;
    return kinds.find(([weight]) => (dice -= weight) < 0)![1]();
  });
}
