/**
 * A host of ours joins a cluster of kernel nodes: as the lowest, a middle and the highest number; before them, after them, and at the same moment as one;
 * in clusters of two, three and four; with local and with global heartbeat. Each pair of these is there once (the table below), and one chain with the times that
 * a cluster has where nobody sets any; two machines are used again and again. After each step all members know of each other and see each other's writes at once.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { ClusterFacts } from '@lunfs/host';
import type { ClusterConfig } from '../support/machines.js';
import { type MixedMember, lastWords, mixedCluster } from '../support/mixed-cluster.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run(), 300_000);

/** Kernel nodes are 1 and 3, ours 0, 2 and 4. Who mounts at one moment stands together; afterwards all unmount. */
const NODES = 'okoko';
interface Chain {
  readonly steps: readonly (readonly number[])[];
  readonly shows: string;
}
const BY_DEFAULT: readonly Chain[] = [
  { steps: [[1], [4], [3, 0]], shows: 'highest, after, of 2; lowest, at the same moment, of 4' },
];
const LOCAL: readonly Chain[] = [
  { steps: [[0], [1], [3, 2]], shows: 'lowest, before, of 2; middle, at the same moment, of 4' },
  { steps: [[1, 3], [4], [2]], shows: 'highest, after, of 3; middle, after, of 4' },
  { steps: [[4, 0], [1, 3]], shows: 'highest and lowest, before, of 4' },
];
const GLOBAL: readonly Chain[] = [
  { steps: [[2], [1, 3], [0]], shows: 'middle, before, of 3; lowest, after, of 4' },
  { steps: [[1, 4]], shows: 'highest, at the same moment, of 2' },
  { steps: [[3], [0, 1]], shows: 'lowest, at the same moment, of 3' },
];

/** Runs a shell command where the volume is mounted, on that node. */
async function on(member: MixedMember, command: string): Promise<string> {
  const there = `cd ${member.directory} && ${command}`;
  return member.kernel ? await member.kernel.must(there) : await member.ours!.do(there);
}

async function together(members: readonly MixedMember[], what: string): Promise<void> {
  await on(members[0], `mkdir ${what}`);
  await Promise.all(members.map((one) => on(one, `echo ${one.name} > ${what}/${one.name}`)));
  for (const one of members) await on(one, `echo ${one.name} > ${what}/by-all`);
  const names = members.map(({ name }) => name).toSorted();
  const seen = await Promise.all(members.map((one) => on(one, `cat ${names.map((name) => `${what}/${name}`).join(' ')} && ls ${what} && cat ${what}/by-all`)));
  for (const one of seen) expect(one).toBe(seen[0]);
  expect(seen[0].startsWith(`${names.join('\n')}\nby-all\n${names.join('\n')}\n`)).toBe(true);
  const numbers = members.map(({ number }) => number).toSorted((a, b) => a - b);
  for (const { ours } of members) {
    if (!ours) continue;
    const { nodes, volumes } = await ours.json<ClusterFacts>('cluster', 'status');
    expect(volumes).toMatchObject([{ state: 'mounted', domain: { members: numbers, recovering: [] } }]);
    expect(nodes.filter(({ live }) => live).map(({ number }) => number)).toEqual(numbers);
  }
}

/** What Linux says of every node that joins while another one asks who owns a lock (dlmmaster.c:dlm_restart_lock_mastery, EAGAIN). */
const MEMBER_CAME = /dlm_wait_for_lock_mastery:\d+ ERROR: status = -11$/;

/** `what`: names the directories in which they meet. */
async function run(what: string, chains: readonly Chain[], members: readonly MixedMember[]): Promise<void> {
  const member = (number: number): MixedMember => members.find((one) => one.number === number)!;
  for (const [at, { steps, shows }] of chains.entries()) {
    const mounted: MixedMember[] = [];
    try {
      for (const step of steps) {
        const joining = step.map(member);
        await Promise.all(joining.map((one) => one.mount()));
        mounted.push(...joining);
        await together(mounted, `${what}${at}-${mounted.length}`);
      }
      // One after the other: kernel nodes that leave at one moment complain of each other (dlm_mig_lockres_handler: "not joined").
      for (const one of at % 2 === 0 ? mounted : mounted.toReversed()) await one.umount();
      for (const { kernel, name } of members) if (kernel) expect((await kernel.complaints()).filter((line) => !MEMBER_CAME.test(line)), name).toEqual([]);
    } catch (error) {
      throw new Error(`${what}, ${shows}: ${(error as Error).message}\n${await lastWords(members)}`, { cause: error });
    }
  }
}

const VOLUME = { blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' };
const SIZE = 512 << 20;
const UUID = '3F2504E04F8941D39A0C0305E82C3302';

test('hosts of ours join kernel nodes', { timeout: 1_200_000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'join'), 'lun');
  await mkfs(lun, { ...VOLUME, size: SIZE });
  const { lab, members } = await mixedCluster(cleanup, { lun, kinds: NODES });
  const configure = async (cluster: ClusterConfig): Promise<void> => void (await Promise.all(members.map((one) => one.configure(cluster))));
  await run('defaults', BY_DEFAULT, members);
  const quick: ClusterConfig = { ...lab.config, settings: { threshold: 7, idleMs: 5000 } };
  await configure(quick);
  await run('local', LOCAL, members);
  await mustBeClean(lun);
  // A volume that is itself the region in which all beat, made where the other one was.
  for (const size of [0, SIZE]) fs.truncateSync(lun, size); // or mkfs.ocfs2 asks
  await mkfs(lun, { ...VOLUME, extra: ['--global-heartbeat', '-U', UUID] });
  await configure({ ...quick, heartbeat: 'global', regions: [UUID] });
  await run('global', GLOBAL, members);
  await Promise.all(members.map((one) => one.stop()));
  await mustBeClean(lun);
});
