/** The Linux node of the matrix: one command per volume and stage, as every program started takes its time under emulation. */
import fs from 'node:fs';
import path from 'node:path';
import type { Geometry } from '@lunfs/ocfs2';
import { type Tree, manifestLine } from '../support/engine-tree.js';
import { KernelNode } from '../support/machines.js';
import { findTime } from '../support/node-tree.js';
import type { Cleanup } from '../support/temp.js';
import { IDS } from './owners.js';
import type { State } from './state.js';

/** `look FILE TYPES`: what is in the volume at $at. */
const FUNCTIONS = `set -e -o pipefail
look() { (cd $at && find . -printf '%P\\0%y|%m|%U|%G|%n|%s|%b|%T@|%C@|%i|%l\\0' > /tmp/list && perl /tmp/look.pl $device "$2" ${IDS.join(',')} < /tmp/list > $1); }
up() { mount -t ocfs2 -o "$1" $device $at || { dmesg | tail -5 >&2; exit 1; }; }
tell() { cat "$@"; rm "$@"; }
mkdir -p $at
blockdev --flushbufs --setra 8192 $device
`;

export class LinuxNode {
  readonly #node: KernelNode;

  private constructor(node: KernelNode, private readonly timeoutMs: number) {
    this.#node = node;
  }

  static async start(cleanup: Cleanup, disks: string[], timeoutMs: number): Promise<LinuxNode> {
    const node = await KernelNode.start(cleanup, { disks, memoryMiB: 1024, cpus: 2 });
    for (const name of ['look.pl', 'changes.pl']) await node.must(`cat > /tmp/${name}`, { input: fs.readFileSync(path.join(import.meta.dirname, name)) });
    return new LinuxNode(node, timeoutMs);
  }

  /** What is in the volume of the n-th disk; then Linux changes it, and what a new mount shows after that: times of direct writes, for one, are in memory only. */
  async readAndChange(disk: number, geo: Geometry, types: string): Promise<{ read: State; changed: State }> {
    const features = (['sparse', 'unwritten', 'xattr', 'refcount', 'quota'] as const).filter((name) => geo[name] && (name !== 'unwritten' || geo.sparse)).join(',');
    const words = await this.#run(disk, `up defaults; look /tmp/read '${types}'; perl /tmp/changes.pl $at ${geo.clusterSize} '${features}'; umount $at; up ${mode(types)}; look /tmp/changed '${types}'; umount $at; tell /tmp/read /tmp/changed`);
    return { read: parse(words), changed: parse(words) };
  }

  /** What is in the volume of the n-th disk. */
  async read(disk: number, types: string): Promise<State> {
    return parse(await this.#run(disk, `up ${mode(types)}; look /tmp/read '${types}'; umount $at; tell /tmp/read`));
  }

  async #run(disk: number, commands: string): Promise<Words> {
    const device = `/dev/vd${String.fromCharCode(97 + disk)}`;
    const bytes = await this.#node.fetch(`device=${device} at=/mnt/${disk}\n${FUNCTIONS}${commands}`, { timeoutMs: this.timeoutMs });
    return new Words(bytes);
  }

  shutdown(): Promise<void> {
    return this.#node.shutdown();
  }
}

/** Linux counts no quota of a volume that it mounts read-only. */
function mode(types: string): string {
  return types === '' ? 'ro' : 'defaults';
}

/** Words ended by NUL, one after the other. */
class Words {
  #at = 0;

  constructor(private readonly bytes: Buffer) {}

  next(): string {
    const end = this.bytes.indexOf(0, this.#at);
    if (end < 0) throw new Error(`the node's answer ends early: ${JSON.stringify(this.bytes.toString('latin1', this.#at, this.#at + 200))}`);
    const word = this.bytes.toString('latin1', this.#at, end);
    this.#at = end + 1;
    return word;
  }
}

function parse(words: Words): State {
  const entries: Tree = new Map();
  for (let left = Number(words.next()); left > 0; left--) {
    const [at, line, data, attributes] = [words.next(), words.next(), words.next(), words.next()];
    const fields = line.split('|');
    const [type, mode, uid, gid, links, size, blocks, mtime, ctime, inode] = fields;
    const told = manifestLine({
      type, mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid), links: Number(links), size: Number(size), blocks: Number(blocks),
      mtime: findTime(mtime), ctime: findTime(ctime), inode: Number(inode), content: fields.slice(10).join('|'),
    });
    entries.set(at === '' ? '.' : at, `${told} data ${data} attributes ${attributes}`);
  }
  const quota = Array.from({ length: Number(words.next()) }, () => words.next());
  return { entries, quota, data: words.next() };
}
