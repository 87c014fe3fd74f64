/** What Linux says is in a mounted directory, of a kernel node or of this host: the other side of engine-tree.ts. */
import zlib from 'node:zlib';
import { HASHED_TAIL, HASHED_WHOLE, type Tree, manifestLine } from './engine-tree.js';
import type { KernelNode } from './machines.js';
import { must } from './temp.js';

/** Three lists of NUL-terminated pairs, each list ended by an empty string; base64 because names are bytes. */
const SCRIPT = `
set -e -o pipefail
cd "$1"
{
  find . -printf '%P\\0%y|%m|%U|%G|%n|%s|%b|%T@|%C@|%i|%l\\0'
  printf '#\\0#\\0'
  find . -type f -size -$(($2 + 1))c -print0 | xargs -0 -r sha256sum -bz | sed -z -E 's/^([0-9a-f]{64}) .(.*)$/\\2\\x00\\1/'
  find . -type f -size +$2c -print0 | while IFS= read -r -d '' file; do printf '%s\\0%s\\0' "$file" "$(tail -c "$3" "$file" | sha256sum | cut -c1-64)"; done
  printf '#\\0#\\0'
  find . '(' -type b -o -type c ')' -exec stat --printf '%n\\0%Hr:%Lr\\0' {} +
} | gzip -1 | base64 -w0
`;

/** The manifest of the directory `top` of a node, for `expectSameTree`. */
export async function nodeTree(node: KernelNode, top: string): Promise<Tree> {
  return parse(await node.must(`bash -s -- '${top}' ${HASHED_WHOLE} ${HASHED_TAIL}`, { input: SCRIPT, timeoutMs: 300_000 }));
}

/** The same of a directory of this host. */
export async function hostTree(top: string): Promise<Tree> {
  return parse(await must('bash', ['--norc', '-s', '--', top, String(HASHED_WHOLE), String(HASHED_TAIL)], { input: SCRIPT, timeoutMs: 300_000, env: { LC_ALL: 'C' } }));
}

function parse(answer: string): Tree {
  const words = zlib.gunzipSync(Buffer.from(answer, 'base64')).toString('latin1').split('\0');
  words.pop();
  const lists = [new Map<string, string>()];
  for (let i = 0; i + 1 < words.length; i += 2) {
    if (words[i] === '#' && words[i + 1] === '#') lists.push(new Map<string, string>());
    else lists[lists.length - 1].set(words[i].replace(/^\.\//, ''), words[i + 1]);
  }
  const [stats, hashes, devices] = lists;
  const tree: Tree = new Map();
  for (const [path, line] of stats) {
    const fields = line.split('|');
    const [type, mode, uid, gid, links, size, blocks, mtime, ctime, inode] = fields;
    // A target may hold a bar.
    const content = type === 'f' ? hashes.get(path) : type === 'b' || type === 'c' ? devices.get(path) : fields.slice(10).join('|');
    if (content === undefined) throw new Error(`it was not said what is in ${path}`);
    tree.set(path === '' ? '.' : path, manifestLine({
      type, mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid), links: Number(links), size: Number(size), blocks: Number(blocks),
      mtime: findTime(mtime), ctime: findTime(ctime), inode: Number(inode), content,
    }));
  }
  return tree;
}

/** A time that find printed, with ten digits after the point, in a manifest's form. */
export function findTime(time: string): string {
  const [sec, fraction = ''] = time.split('.');
  return `${sec}.${fraction.padEnd(9, '0').slice(0, 9)}`;
}
