/** Extended attributes of a volume of the matrix: few and thousands, in all four storages, ACLs and security labels. */
import { LunfsError } from '@lunfs/device';
import { ACL_TAG } from '@lunfs/ocfs2';
import type { Site } from './site.js';

/** In the inode or its block up to 80 bytes, else in clusters of their own. */
const LENGTHS = [0, 3, 30, 79, 80, 81, 200, 5000];
const LOCAL = 80;
/** Attributes of one inode: Linux lists names of 64 KiB. */
const MOST = 1500;

const nameOf = (i: number): string => `${i % 5 === 0 ? 'trusted.' : i % 7 === 0 ? 'security.' : 'user.'}attribute ${i}${i % 31 === 0 ? '/long'.repeat(30) : ''}`;

/** An access or default ACL as setxattr(2) takes it: rw for the owner, `perm` for a user, nothing for others. */
export function aclOf(uid: number, perm: number): Uint8Array {
  const none = 0xffffffff;
  const entries: [number, number, number][] = [[ACL_TAG.USER_OBJ, 6, none], [ACL_TAG.USER, perm, uid], [ACL_TAG.GROUP_OBJ, 4, none], [ACL_TAG.MASK, 7, none], [ACL_TAG.OTHER, 0, none]];
  const out = Buffer.alloc(4 + 8 * entries.length);
  out.writeUInt32LE(2, 0);
  for (const [i, [tag, rights, id]] of entries.entries()) {
    out.writeUInt16LE(tag, 4 + 8 * i);
    out.writeUInt16LE(rights, 6 + 8 * i);
    out.writeUInt32LE(id, 8 + 8 * i);
  }
  return out;
}

/** Sets attributes of files; counts what takes clusters, of which there are not many where clusters are large. */
class Setter {
  #outside: number;

  constructor(private readonly site: Site) {
    this.#outside = Math.floor(site.geo.totalClusters / 40);
  }

  async set(path: string, name: string, value: Uint8Array | number): Promise<void> {
    const { tree } = this.site;
    let bytes = typeof value === 'number' ? this.site.bytes(value) : value;
    if (bytes.length > LOCAL && --this.#outside < 0) bytes = bytes.subarray(0, LOCAL);
    await tree.volume.names.setXattr(await tree.resolve(path), Buffer.from(name), bytes);
  }
}

export async function fillAttributes(site: Site, top: string): Promise<void> {
  const { tree } = site;
  const set = new Setter(site);
  await tree.mkdir(top);
  if (!site.geo.xattr) {
    const error: unknown = await set.set(top, 'user.one', 3).then(() => undefined, (reason: unknown) => reason);
    if (!(error instanceof LunfsError) || error.code !== 'XATTR_UNSUPPORTED') throw new Error(`an attribute on a volume without the feature: ${String(error)}`);
    return;
  }
  await tree.create(`${top}/few`, 'inline data gives way to attributes\n'.repeat(3));
  await tree.symlink('few', `${top}/link`);
  await tree.mkdir(`${top}/directory`);
  await set.set(`${top}/few`, 'user.one', 20);
  await set.set(`${top}/few`, 'security.selinux', Buffer.from('system_u:object_r:etc_t:s0\0'));
  await set.set(`${top}/link`, 'trusted.on a link', 60);
  await set.set(`${top}/directory`, 'user.d', 500);
  await tree.create(`${top}/large`);
  for (const length of [4096, 20_000, 65_000]) await set.set(`${top}/large`, `user.of ${length}`, length);
  await lists(site, top);
  await many(site, top, set);
}

/** ACLs, and what inherits them. */
async function lists({ tree }: Site, top: string): Promise<void> {
  const set = async (path: string, name: string, acl: Uint8Array) => tree.volume.names.setXattr(await tree.resolve(path), Buffer.from(`system.posix_acl_${name}`), acl);
  await tree.mkdir(`${top}/lists`);
  await set(`${top}/lists`, 'default', aclOf(1000, 5));
  for (let i = 0; i < 6; i++) {
    await tree.create(`${top}/lists/file-${i}`, 'kept from others', 0o664);
    if (i % 2 === 0) await set(`${top}/lists/file-${i}`, 'access', aclOf(1000 + i, i % 8));
  }
  await tree.mkdir(`${top}/lists/inherits`);
  await tree.change(`${top}/lists/file-1`, { mode: 0o640 });
}

async function many({ tree, scale }: Site, top: string, set: Setter): Promise<void> {
  for (let left = scale.xattrs, k = 0; left > 0; left -= MOST, k++) {
    const path = `${top}/many-${k}`, count = Math.min(left, MOST);
    await tree.create(path);
    for (let i = 0; i < count; i++) await set.set(path, nameOf(i), LENGTHS[(i + k) % LENGTHS.length]);
    for (let i = 0; i < count; i += 4) await set.set(path, nameOf(i), LENGTHS[(i + k + 3) % LENGTHS.length]);
    for (let i = 1; i < count; i += 10) await tree.volume.names.removeXattr(await tree.resolve(path), Buffer.from(nameOf(i)));
  }
  // One that goes with all it has.
  await tree.create(`${top}/gone`);
  for (let i = 0; i < 60; i++) await set.set(`${top}/gone`, nameOf(i), LENGTHS[i % 6]);
  await tree.unlink(`${top}/gone`);
}

/** Ours after Linux changed them, and its own. */
export async function changeAttributes(site: Site): Promise<void> {
  if (!site.geo.xattr) return;
  const { tree } = site;
  const set = new Setter(site);
  for (const path of ['ours/attributes/many-0', 'theirs/attributes/many']) {
    const ino = await tree.resolve(path);
    const names = await tree.volume.names.listXattr(ino);
    for (const [i, name] of names.entries()) {
      if (i % 3 === 0) await tree.volume.names.removeXattr(ino, name);
      else if (i % 3 === 1) await set.set(path, Buffer.from(name).toString(), LENGTHS[i % LENGTHS.length]);
    }
    for (let i = 0; i < 40; i++) await set.set(path, `user.later ${i}`, LENGTHS[i % LENGTHS.length]);
  }
  await tree.create('theirs/attributes/lists/of ours', 'inherits what Linux set', 0o660);
  await tree.change('theirs/attributes/listed', { mode: 0o600 });
  await tree.unlink('ours/attributes/large');
}
