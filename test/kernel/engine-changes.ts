/** What the engine does to a volume in these tests: the operations of fill.sh and modify.sh, by its own functions. */
import { MODE } from '@lunfs/ocfs2';
import { type EngineTree, deviceNumber } from '../support/engine-tree.js';

/** Text of `seq first last`. */
export function numbers(last: number, first = 1): Buffer {
  const lines: string[] = [];
  for (let i = first; i <= last; i++) lines.push(`${i}\n`);
  return Buffer.from(lines.join(''));
}

const utf8 = (name: string) => Buffer.from(name, 'utf8').toString('latin1');

/** A directory of `entries` files of which every third is gone again. */
export async function fillWide(tree: EngineTree, path: string, entries: number): Promise<void> {
  await tree.mkdir(path);
  for (let i = 0; i < entries; i++) await tree.create(`${path}/entry-${i}`);
  for (let i = 0; i < entries; i += 3) await tree.unlink(`${path}/entry-${i}`);
}

/** A bit of everything in an empty directory. */
export async function fillOwn(tree: EngineTree, top: string): Promise<void> {
  const at = (path: string) => `${top}/${path}`;
  await fillNames(tree, at);
  await fillTypes(tree, at);
  await fillData(tree, at);
}

async function fillNames(tree: EngineTree, at: (path: string) => string): Promise<void> {
  let below = at('deep');
  await tree.mkdir(below);
  for (let i = 0; i < 40; i++) await tree.mkdir((below += `/level-${i}`));
  await tree.create(`${below}/file`, 'bottom\n');
  await tree.mkdir(at('names'));
  for (let length = 1; length <= 255; length++) await tree.create(at(`names/${'n'.repeat(length)}`));
  for (const name of ['with blank', 'new\nline', '*?[', 'quo\'te"', '\xff\xfe not UTF-8', utf8('grün ☃'), '-dash', '...']) await tree.create(at(`names/${name}`), name);
  for (let i = 0; i < 50; i++) await tree.link(at('names/...'), at(`names/hard-${i}`));
  for (const name of ['from', 'to']) await tree.mkdir(at(`names/${name}`));
  await tree.create(at('names/from/replaces'), 'two');
  await tree.create(at('names/to/target'), 'old');
  await tree.rename(at('names/from/replaces'), at('names/to/target'));
  await tree.mkdir(at('names/from/sub'));
  await tree.create(at('names/from/sub/file'), 'moved');
  await tree.rename(at('names/from/sub'), at('names/to/sub'));
  await tree.mkdir(at('names/empty'));
  await tree.rename(at('names/from'), at('names/empty'));
}

async function fillTypes(tree: EngineTree, at: (path: string) => string): Promise<void> {
  await tree.mkdir(at('types'));
  await tree.mknod(at('types/fifo'), MODE.FIFO | 0o644);
  await tree.mknod(at('types/socket'), MODE.SOCK | 0o600);
  await tree.mknod(at('types/char'), MODE.CHR | 0o666, deviceNumber(5, 1));
  await tree.mknod(at('types/block'), MODE.BLK | 0o660, deviceNumber(259, 70000));
  await tree.symlink('../names', at('types/short'));
  await tree.symlink('x'.repeat(200), at('types/dangling'));
  await tree.symlink('y'.repeat(4095), at('types/long'));
  for (const mode of [0, 0o400, 0o777, 0o1777, 0o4711, 0o6755]) await tree.create(at(`types/${mode.toString(8)}`), '', mode);
  await tree.change(at('types/777'), { uid: 70000, gid: 4_000_000_000 });
  await tree.change(at('types/400'), { atime: { sec: 1, nsec: 2 }, mtime: { sec: 4_102_444_800, nsec: 999_999_999 } });
}

async function fillData(tree: EngineTree, at: (path: string) => string): Promise<void> {
  await tree.mkdir(at('data'));
  await tree.create(at('data/inline'), 'inline');
  await tree.create(at('data/grown'), numbers(10));
  await tree.write(at('data/grown'), 'append', numbers(5000));
  await tree.create(at('data/seq'), numbers(100_000));
  await tree.create(at('data/appended'));
  for (let i = 0; i < 200; i++) await tree.write(at('data/appended'), 'append', `line ${i} of a file that is appended to\n`);
  await tree.create(at('data/sparse'));
  await tree.truncate(at('data/sparse'), 6 << 20);
  await tree.write(at('data/sparse'), 3_000_003, 'middle');
  await tree.create(at('data/giant'));
  await tree.write(at('data/giant'), 5 * 2 ** 40 - 3, 'end');
  await tree.create(at('data/unwritten'));
  await tree.fallocate(at('data/unwritten'), 'reserve', 0, 3 << 20);
  await tree.write(at('data/unwritten'), 409_600, numbers(2000));
  await tree.create(at('data/punched'), numbers(300_000));
  await tree.fallocate(at('data/punched'), 'punch', 100_001, 900_000, true);
  await tree.fallocate(at('data/punched'), 'punch', 1_600_000, 4 << 20, true);
  await tree.create(at('data/zeroed'), numbers(100_000));
  await tree.fallocate(at('data/zeroed'), 'zero', 5000, 300_000);
  await tree.create(at('data/kept'), numbers(500));
  await tree.fallocate(at('data/kept'), 'reserve', 0, 2 << 20, true);
  await tree.create(at('data/fragmented'));
  const page = Buffer.alloc(4096, 'fragment ');
  for (let i = 0; i < 400; i++) await tree.write(at('data/fragmented'), i * 8192, page);
  await tree.create(at('data/shuffled'));
  for (let i = 0; i < 509; i++) await tree.write(at('data/shuffled'), ((i * 277) % 509) * 4096 + 100, page);
  await tree.create(at('data/cut'), numbers(200_000));
  await tree.truncate(at('data/cut'), 100_001);
  await tree.create(at('data/longer'), numbers(1000));
  await tree.truncate(at('data/longer'), 300_000);
  await tree.write(at('data/longer'), 'append', 'end\n');
  await tree.create(at('data/gone'), numbers(100_000));
  await tree.unlink(at('data/gone'));
}

/** Changes what fill.sh left in a directory, so that modify.sh can change it again. */
export async function changeAll(tree: EngineTree, top: string): Promise<void> {
  const at = (path: string) => `${top}/${path}`;
  for (let i = 2; i < 900; i += 3) await tree.unlink(at(`wide/file-${i}`));
  for (let i = 0; i < 500; i++) await tree.create(at(`wide/ours-${i}`), i % 2 ? '' : `content of ${i}`);
  for (let i = 0; i < 200; i++) await tree.rename(at(`wide/ours-${i}`), at(`wide/renamed to a longer name ${i}`));
  await tree.removeTree(at(`deep/level-0`));
  await tree.mkdir(at('deep/ours'));
  for (let i = 0; i < 20; i++) await tree.unlink(at(`names/hard-${i + 20}`));
  await tree.link(at('names/...'), at('names/hard-ours'));
  await tree.rename(at('names/to/sub'), at('names/sub'));
  await tree.unlink(at('types/char'));
  await tree.change(at('types/2755'), { mode: 0o2700, uid: 12, gid: 13, mtime: { sec: 86_400, nsec: 7 } });
  await tree.write(at('data/inline'), 3, 'IN');
  await tree.write(at('data/inline-large'), 0, numbers(4000));
  await tree.write(at('data/grown'), 1000, 'changed');
  await tree.write(at('data/seq'), 12_345, numbers(5000));
  await tree.write(at('data/appended'), 'append', 'our line\n');
  await tree.write(at('data/sparse'), 1_000_001, 'early');
  await tree.write(at('data/giant'), 2 ** 40, 'a fifth');
  await tree.write(at('data/unwritten'), 1_000_001, numbers(3000));
  await tree.write(at('data/punched'), 400_000, 'in the hole');
  await tree.write(at('data/zeroed'), 100_003, 'in the zeroes');
  await tree.write(at('data/kept'), 1_000_000, 'in what was reserved');
  for (let i = 0; i < 370; i += 2) await tree.write(at('data/fragmented'), i * 8192 + 4096, `filled ${i}`);
  await tree.fallocate(at('data/fragmented'), 'punch', 1_000_001, 2_000_000, true);
  await tree.truncate(at('data/shuffled'), 1_234_567);
  await tree.truncate(at('data/cut'), 50);
  await tree.truncate(at('data/cut'), 500_000);
  await tree.unlink(at('data/longer'));
  await tree.unlink(at('data/copied'));
}
