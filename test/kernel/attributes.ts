/**
 * Extended attributes and ACLs between the engine and a Linux node: hundreds on one inode in all storages, written by one side,
 * read and changed by the other.
 */
import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { aclFromXattr } from '@lunfs/ocfs2';
import { expect } from 'vitest';
import type { EngineTree } from '../support/engine-tree.js';
import type { KernelNode } from '../support/machines.js';

/** By path relative to a directory, then by name: the value. */
export type Attributes = Map<string, Map<string, Buffer>>;

/** A value that its name and a number determine. */
function valueOfName(name: string, length: number, round: number): Buffer {
  const out = Buffer.alloc(length);
  for (let at = 0, i = 0; at < length; at += 64, i++) out.write(createHash('sha256').update(`${name} ${round} ${i}`).digest('hex'), at);
  return out;
}

const MANY = 300;
const LENGTHS = [0, 3, 30, 79, 80, 81, 200, 5000];
const nameOf = (i: number): string => `${i % 5 === 0 ? 'trusted.' : i % 7 === 0 ? 'security.' : 'user.'}attribute ${i}${i % 11 === 0 ? '/long'.repeat(30) : ''}`;

/** Set attributes below `top` (made here): few and many, small and large, of files, a directory and a symlink. */
export async function fillAttributes(tree: EngineTree, top: string): Promise<Attributes> {
  const { names } = tree.volume;
  const all: Attributes = new Map();
  const set = async (file: string, name: string, value: Buffer): Promise<void> => {
    await names.setXattr(await tree.resolve(`${top}/${file}`), Buffer.from(name), value);
    all.set(file, (all.get(file) ?? new Map<string, Buffer>()).set(name, value));
  };
  await tree.mkdir(top);
  for (const file of ['few', 'many', 'large', 'gone']) await tree.create(`${top}/${file}`, `text of ${file}\n`);
  await tree.mkdir(`${top}/directory`);
  await tree.symlink('few', `${top}/link`);
  await set('few', 'user.one', Buffer.from('a value'));
  await set('few', 'security.selinux', Buffer.from('system_u:object_r:etc_t:s0\0'));
  await set('link', 'trusted.on a link', Buffer.from('value'));
  await set('directory', 'user.d', valueOfName('d', 500, 0));
  for (const length of [4096, 20_000, 65_000]) await set('large', `user.of ${length}`, valueOfName('large', length, 0));
  for (let i = 0; i < MANY; i++) {
    await set('many', nameOf(i), valueOfName(nameOf(i), LENGTHS[i % LENGTHS.length], 0));
    await set('gone', nameOf(i), Buffer.from(String(i)));
  }
  // Changed and removed by us before anybody else sees them.
  for (let i = 0; i < MANY; i += 4) await set('many', nameOf(i), valueOfName(nameOf(i), LENGTHS[(i + 3) % LENGTHS.length], 1));
  for (let i = 1; i < MANY; i += 10) {
    await names.removeXattr(await tree.resolve(`${top}/many`), Buffer.from(nameOf(i)));
    all.get('many')!.delete(nameOf(i));
  }
  return all;
}

/** What a Linux node finds below a directory; paths and names as bytes (latin1). */
export async function attributesOf(node: KernelNode, top: string): Promise<Attributes> {
  const dump = await node.must(`cd ${top} && getfattr -R -P -h -d -m - -e hex . | gzip -1 | base64 -w0`, { timeoutMs: 300_000 });
  const all: Attributes = new Map();
  let now = new Map<string, Buffer>();
  for (const line of gunzipSync(Buffer.from(dump, 'base64')).toString('latin1').split('\n')) {
    if (line.startsWith('# file: ')) all.set(unescape8(line.slice(8)), (now = new Map<string, Buffer>()));
    else if (line !== '') {
      const at = line.lastIndexOf('=');
      now.set(unescape8(line.slice(0, at)), Buffer.from(line.slice(at + 1).replace(/^0x/, ''), 'hex'));
    }
  }
  return all;
}

/** Undoes getfattr's \\ooo in names. */
function unescape8(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function same(found: Attributes, expected: Attributes): void {
  expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [file, values] of expected) {
    const other = found.get(file)!;
    expect([...other.keys()].sort(), file).toEqual([...values.keys()].sort());
    for (const [name, value] of values) expect(other.get(name)?.equals(value), `${file} ${name}`).toBe(true);
  }
}

/**
 * The node reads what we wrote, then changes it: adds, replaces, removes, deletes a file with hundreds. No value takes less room in its
 * bucket than before (a value root has 48 bytes): Linux forgets to count that (xattr.c:ocfs2_xa_reuse_entry), as fsck.ocfs2 then says.
 */
export async function nodeChanges(node: KernelNode, top: string, all: Attributes): Promise<void> {
  same(await attributesOf(node, top), all);
  const many = all.get('many')!;
  const lines = ['# file: many'];
  for (let i = 0; i < 200; i++) {
    const name = i % 2 === 0 ? `user.by Linux ${i}` : nameOf(i);
    const had = many.get(name)?.length;
    const value = valueOfName(name, had === undefined ? LENGTHS[i % LENGTHS.length] : had > 80 ? had + (i % 3) * 40 : had <= 40 ? had + (i % 3) * 100 : had, 2);
    lines.push(`${name.replaceAll(' ', '\\040')}=0x${value.toString('hex')}`);
    many.set(name, value);
  }
  const removed = [...many.keys()].filter((_, i) => i % 15 === 0);
  for (const name of removed) many.delete(name);
  all.delete('gone');
  await node.must(`cd ${top} && cat > /tmp/restore && setfattr -h --restore=/tmp/restore && rm gone`, { input: `${lines.join('\n')}\n`, timeoutMs: 300_000 });
  await node.must(`cd ${top} && while IFS= read -r name; do setfattr -x "$name" many; done`, { input: `${removed.join('\n')}\n`, timeoutMs: 300_000 });
  same(await attributesOf(node, top), all);
}

/** We read what the node left. */
export async function readBack(tree: EngineTree, top: string, all: Attributes): Promise<void> {
  const { names } = tree.volume;
  const found: Attributes = new Map();
  for (const file of all.keys()) {
    const ino = await tree.resolve(`${top}/${file}`);
    const values = new Map<string, Buffer>();
    for (const name of await names.listXattr(ino)) values.set(Buffer.from(name).toString(), Buffer.from(await names.getXattr(ino, name)));
    found.set(file, values);
  }
  same(found, all);
  await tree.unlink(`${top}/many`);
  await tree.unlink(`${top}/large`);
}

/** ACLs that Linux set follow our chmod and are inherited by what we create. The node made `attributed` and the directory `inherits`. */
export async function changeAcls(tree: EngineTree): Promise<void> {
  const { names } = tree.volume;
  const access = Buffer.from('system.posix_acl_access');
  await tree.write('attributed', 0, 'b');
  await tree.change('attributed', { mode: 0o660 });
  await tree.create('inherits/file', 'secret\n', 0o660);
  await tree.mkdir('inherits/directory', 0o750);
  const shown = async (path: string): Promise<string> => aclFromXattr(await names.getXattr(await tree.resolve(path), access)).map((e) => `${e.tag}:${e.perm}`).join(' ');
  expect(await shown('attributed')).toBe('1:6 2:4 4:4 16:6 32:0');
  expect(await shown('inherits/file')).toBe('1:6 2:5 4:5 16:4 32:0');
}

/** The node shows the same ACLs, and lets alice do what they say. */
export async function nodeHonoursAcls(node: KernelNode, top: string): Promise<void> {
  const acl = (file: string): Promise<string> => node.must(`cd ${top} && getfacl -cpE ${file} | sort | tr '\n' ' '`);
  expect(await acl('attributed')).toBe(' group::r-- mask::rw- other::--- user::rw- user:alice:r-- ');
  expect(await acl('inherits/file')).toBe(' group::r-x mask::r-- other::--- user::rw- user:alice:r-x ');
  expect(await acl('inherits/directory')).toBe(' default:group::r-x default:mask::r-x default:other::r-x default:user::rwx default:user:alice:r-x group::r-x mask::r-x other::--- user::rwx user:alice:r-x ');
  const may = (who: number, what: string): Promise<string> => node.must(`chmod o+x ${top}; setpriv --reuid=${who} --regid=${who} --clear-groups bash -c '${what}' 2>/dev/null && echo yes || echo no`);
  expect([await may(1000, `cat ${top}/inherits/file`), await may(1001, `cat ${top}/inherits/file`), await may(1000, `echo > ${top}/inherits/file`)]).toEqual(['secret\nyes\n', 'no\n', 'no\n']);
}
