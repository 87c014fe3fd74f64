/**
 * ocfs2-tools as oracle: format, check and look into an image, with answers as data.
 *
 * fsck.ocfs2 is always run with -fn here: what it would repair is a finding, and the image stays as it was.
 */
import fs from 'node:fs';
import { oracleMissing } from '../../scripts/lib/oracles.mjs';
import { exec, must, sparseFile } from './temp.js';

/** True when this machine can't run the oracle; prints why, so that a skipped test says so. For `describe.skipIf`. */
export function lacks(...oracles: string[]): boolean {
  const reasons = oracles.flatMap((name) => oracleMissing(name) ?? []);
  if (reasons.length > 0) console.log(`skipped: ${reasons.join('; ')}`);
  return reasons.length > 0;
}

export interface MkfsOptions {
  /** Bytes; the image is made sparse at this size first. Absent: format what is there (a device, an existing image). */
  size?: number;
  /** Bytes: 512 to 4096. */
  blockSize?: number;
  /** Bytes: 4096 to 1048576. */
  clusterSize?: number;
  /** -T */
  type?: 'mail' | 'datafiles' | 'vmstore';
  /** --fs-features, e.g. `metaecc,refcount`. */
  features?: string;
  /** --fs-feature-level */
  level?: 'max-compat' | 'default' | 'max-features';
  label?: string;
  /** Node slots, -N. */
  slots?: number;
  /** Bytes, -J size=. */
  journalSize?: number;
  /** A cluster volume of the o2cb stack with this cluster name; absent: a local volume (-M local). */
  cluster?: string;
  extra?: string[];
}

/** mkfs.ocfs2 on an image or device. */
export async function mkfs(image: string, options: MkfsOptions = {}): Promise<void> {
  const { size, blockSize, clusterSize, type, features, level, label, slots, journalSize, cluster, extra = [] } = options;
  if (size !== undefined) sparseFile(image, size);
  const args = ['-q', '-F', '-F', ...(cluster === undefined ? ['-M', 'local'] : ['--cluster-stack=o2cb', `--cluster-name=${cluster}`])];
  if (blockSize !== undefined) args.push('-b', String(blockSize));
  if (clusterSize !== undefined) args.push('-C', String(clusterSize));
  if (type !== undefined) args.push('-T', type);
  if (features !== undefined) args.push(`--fs-features=${features}`);
  if (level !== undefined) args.push(`--fs-feature-level=${level}`);
  if (label !== undefined) args.push('-L', label);
  if (slots !== undefined) args.push('-N', String(slots));
  if (journalSize !== undefined) args.push('-J', `size=${journalSize}`);
  await must('mkfs.ocfs2', [...args, ...extra, image]);
}

export interface FsckFinding {
  /** fsck.ocfs2's own name of the problem, e.g. `INODE_COUNT`. */
  code: string;
  text: string;
}

export interface FsckReport {
  /** Exit status: a bit mask, 0 clean, 4 errors left, 8 operational error. */
  status: number;
  findings: FsckFinding[];
  output: string;
}

/**
 * What fsck.ocfs2 1.8.7 says although the volume is right; pass those that apply as `ignoring`.
 * INODE_SPARSE_SIZE: preallocation past the size (FALLOC_FL_KEEP_SIZE). DX_TREE_MISSING: a directory that is inline,
 * so has no index, on a volume with indexed directories.
 */
export const KNOWN_FALSE_POSITIVES: readonly string[] = ['INODE_SPARSE_SIZE', 'DX_TREE_MISSING'];

/** Findings to leave out: by code, or one by one. */
export type Ignoring = readonly string[] | ((finding: FsckFinding) => boolean);

/** fsck.ocfs2 -fn, without the findings to leave out. Rejects when it could not even read the volume. */
export async function fsck(image: string, ignoring: Ignoring = []): Promise<FsckReport> {
  // Without a limit it takes and zeroes a cache as large as the volume, or all of the memory: 11 s instead of 0.4 s at 3 GiB.
  const { status, signal, stdout, stderr } = await exec('prlimit', [`--as=${256 << 20}`, 'fsck.ocfs2', '-fn', image], { timeoutMs: 300_000 });
  const output = stdout + stderr;
  if (signal !== null || !/^(All passes succeeded|Pass 5|Pass 4b)/m.test(stdout)) throw new Error(`fsck.ocfs2 -fn ${image} did not finish: ${signal ?? `status ${status}`}: ${lastLine(output)}\n${output}`);
  const findings = [...output.matchAll(/^\[([A-Z0-9_]+)\] (.*)$/gm)].map(([, code, text]) => ({ code, text }))
    .filter((finding) => !(typeof ignoring === 'function' ? ignoring(finding) : ignoring.includes(finding.code)));
  return { status, findings, output };
}

/** Rejects, with what fsck.ocfs2 said, unless it finds nothing (but what is in `ignoring`) and no journal waits for replay. */
export async function mustBeClean(image: string, ignoring: Ignoring = []): Promise<void> {
  const { status, findings, output } = await fsck(image, ignoring);
  const replay = output.includes('Skipping journal replay');
  if (findings.length === 0 && !replay && status === 0 && /^All passes succeeded\.$/m.test(output)) return;
  const found = findings.length > 0 ? `${findings.length} findings: ${findings.slice(0, 3).map(({ code, text }) => `[${code}] ${text}`).join('; ')}` : replay ? 'a journal waits for replay' : lastLine(output);
  throw new Error(`fsck.ocfs2 -fn ${image}: status ${status}, ${found}\n${output.slice(0, 8000)}`);
}

function lastLine(output: string): string {
  return output.trimEnd().split('\n').at(-1)!;
}

/** debugfs.ocfs2 -R COMMAND. It ends with status 0 whatever happened, so any complaint on stderr is an error here. */
export async function debugfs(image: string, command: string): Promise<string> {
  const { status, stdout, stderr } = await exec('debugfs.ocfs2', ['-n', '-R', command, image]);
  const complaint = stderr.replace(/^debugfs\.ocfs2 [\d.]+\s*/m, '').trim();
  if (status !== 0 || complaint !== '') throw new Error(`debugfs.ocfs2 -R '${command}' ${image}: ${complaint || `status ${status}`}`);
  return stdout;
}

export interface DebugfsInode {
  /** Every `Name: value` of the header, e.g. `Inode`, `Mode`, `Size`, `Links`, `Clusters`, `Flags`, `Dynamic Features`. */
  fields: Map<string, string>;
  /** Leaf records in order: offset and length in clusters, first block, flags (1 unwritten, 2 refcounted). */
  extents: { offset: number; clusters: number; block: number; flags: number }[];
  output: string;
}

/** `stat` of a path (`/a/b`), a system file (`//journal:0000`) or a block (`<5>`). */
export async function debugfsStat(image: string, what: string): Promise<DebugfsInode> {
  return parseStat(await debugfs(image, `stat ${what}`));
}

/** `stat` of many inodes by number, in their order, in one run of debugfs.ocfs2. `script`: a file to write the commands to. */
export async function debugfsStatMany(image: string, inodes: readonly number[], script: string): Promise<DebugfsInode[]> {
  fs.writeFileSync(script, inodes.map((inode) => `stat <${inode}>\n`).join(''));
  // It ends with status 1 at the end of its script; whoever calls counts the answers.
  const { stdout } = await exec('debugfs.ocfs2', ['-n', '-f', script, image]);
  return stdout.split(/^(?=\tInode: )/m).filter((part) => part.startsWith('\tInode: ')).map(parseStat);
}

function parseStat(output: string): DebugfsInode {
  const fields = new Map<string, string>();
  const extents: DebugfsInode['extents'] = [];
  for (const line of output.split('\n')) {
    // Records of inner tree nodes have no flags column.
    const leaf = /^\s*\d+\s+(\d+)\s+(\d+)\s+(\d+)\s+0x([0-9a-f]+)/.exec(line);
    if (leaf) extents.push({ offset: Number(leaf[1]), clusters: Number(leaf[2]), block: Number(leaf[3]), flags: Number.parseInt(leaf[4], 16) });
    const time = /^\s*([acmd]time): (0x[0-9a-f]+ ?(?:0x[0-9a-f]+)?)/.exec(line);
    if (time) {
      if (!fields.has(time[1])) fields.set(time[1], time[2].trim());
      continue;
    }
    // Several "Name: value" share a line, three or more blanks (or a tab) apart; names hold single blanks.
    for (const part of line.trim().split(/\s{2,}|\t/)) {
      const pair = /^([A-Z][\w .#-]*): ?(.*)$/.exec(part);
      if (pair && !fields.has(pair[1])) fields.set(pair[1], pair[2].trim());
    }
  }
  return { fields, extents, output };
}
