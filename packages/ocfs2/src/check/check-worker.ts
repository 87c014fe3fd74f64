/** A thread that helps with a verification (crew.ts). It is told each pass, does its part and hands over what it found. */
import { parentPort, workerData } from 'node:worker_threads';
import { FileDevice } from '@lunfs/device';
import { RawReader } from '../inspect/raw-reader.js';
import { Checker } from './checker.js';
import type { CrewStart, PassResult } from './crew.js';
import { checkDirectories } from './directories.js';
import { Findings } from './findings.js';
import { InodeTable } from './inode-table.js';
import { checkInodes } from './inodes.js';
import { MetaTable } from './meta-table.js';
import { DIRECTORIES, INODES, type Pass, Turns } from './turns.js';
import { ClusterUsage } from './usage.js';

const start = workerData as CrewStart;
const { geo } = start;
const orphanSlots = new Map(start.orphanDirs.map((blkno, slot) => [blkno, slot]));
// The descriptor is the first thread's, who closes it.
const reader = new RawReader(new FileDevice(start.file), geo);
const turns = new Turns(start.turns);
const inodes = new InodeTable(start.inodeSlots.flatMap(({ groups }) => groups), start.inodes);

async function run(pass: Pass): Promise<PassResult> {
  const findings = new Findings();
  inodes.live = inodes.directories = 0;
  const c = new Checker(reader, findings, new ClusterUsage(geo, findings, turns, start.claims), inodes, new MetaTable(findings, turns, start.extentSlots, start.meta), turns);
  const done = (items = 1) => void turns.done(pass, items);
  if (pass === INODES) await checkInodes(c, start.inodeSlots, done);
  if (pass === DIRECTORIES) await checkDirectories(c, (blkno) => orphanSlots.get(blkno), done);
  return {
    list: findings.list, truncated: findings.truncated, live: inodes.live, directories: inodes.directories,
    owners: { user: c.owners.all('user'), group: c.owners.all('group') },
    shared: [...c.shared].map(([root, tree]) => ({ root, inodes: tree.inodes, runs: tree.runs.numbers() })),
  };
}

parentPort?.on('message', (pass: Pass) => {
  // A failure ends the thread, which the first one sees.
  void run(pass).then((result) => parentPort?.postMessage(result));
});
