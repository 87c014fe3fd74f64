/**
 * Kernel nodes and hosts of ours on one volume: what one does all others see at once. First each operation from every side, then storms in one
 * directory, then a random mix of everything from all nodes, judged by models (mix-subjects.ts, mix-names.ts); in the end the kernels complained of
 * nothing, and fsck.ocfs2 and our verifier find nothing.
 *
 * `npm run soak -- --cluster --minutes M [--nodes okok]` mixes for longer. LUNFS_SEED=… repeats the dice, though not the timing.
 */
import path from 'node:path';
import { Random } from '@lunfs/device';
import { afterAll, expect, test } from 'vitest';
import type { Hand } from '../support/hand.js';
import { LUNFS } from '../support/lunfs-host.js';
import { lastWords, mixedCluster } from '../support/mixed-cluster.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, must, seed, tempDir } from '../support/temp.js';
import { Names } from './mix-names.js';
import { Attic, Counter, Facts, Log, Places, type Subject, counts } from './mix-subjects.js';

const MINUTES = Number(process.env.LUNFS_MIX_MINUTES ?? 2);
/** A letter for each node number: k a kernel node, o one of ours. */
const NODES = process.env.LUNFS_MIX_NODES ?? 'oko';
const HANDS = 2;
const [SH, EX, NB, UN] = [1, 2, 4, 8];

const cleanup = new Cleanup();
afterAll(() => cleanup.run(), 300_000);

const hex = (text: string): string => Buffer.from(text).toString('hex');

/** Each operation by `hand`, looked at by all `others` at once. */
async function everyOperation(hand: Hand, others: readonly Hand[]): Promise<void> {
  const at = `by-${hand.name}`;
  const all = [hand, ...others];
  /** What all of them see, which must be the same. */
  const seen = async (...call: [string, ...(string | number)[]]): Promise<readonly string[]> => {
    const answers = await Promise.all(all.map((one) => one.call(...call)));
    for (const answer of answers) expect(answer, `${at}: ${call.join(' ')}`).toEqual(answers[0]);
    return answers[0].error === undefined ? answers[0].values : [answers[0].error];
  };
  const [other] = others;

  await hand.must('mkdir', at);
  await seen('list', at);
  const [ino] = await hand.must('create', `${at}/f`, hex('first'));
  expect((await seen('stat', `${at}/f`)).slice(0, 5)).toEqual(['file', ino, '1', '5', '420']);
  expect(await seen('slurp', `${at}/f`)).toEqual([hex('first')]);
  expect(await seen('list', at)).toEqual(['f']);
  expect(await seen('create', `${at}/f`, '')).toEqual(['EEXIST']);

  // Data, by files that stay open on all sides: written in place, over a hole, appended by each in turn, cut.
  await Promise.all(all.map((one) => one.must('open', at, `${at}/f`, 2)));
  await hand.must('pwrite', at, 2, hex('XY'));
  expect(await seen('pread', at, 0, 100)).toEqual([hex('fiXYt')]);
  await other.must('pwrite', at, 100_000, hex('far'));
  expect((await seen('fstat', at))[3]).toBe('100003');
  expect(await seen('pread', at, 99_998, 100)).toEqual([hex('\0\0far')]);
  let size = 100_003;
  for (const one of all) {
    expect(await one.must('lockedadd', `${at}/f`, hex('1234567'))).toEqual([String(size)]);
    size += 7;
  }
  expect((await seen('fstat', at))[3]).toBe(String(size));
  expect(await seen('pread', at, 100_003, 1000)).toEqual([hex('1234567').repeat(all.length)]);
  await hand.must('utime', `${at}/f`, 1);
  expect((await seen('fstat', at))[5]).toBe('1');
  await hand.must('truncate', `${at}/f`, 3);
  expect(await seen('slurp', `${at}/f`)).toEqual([hex('fiX')]);
  await other.must('ftruncate', at, 20_000);
  expect((await seen('fstat', at))[3]).toBe('20000');
  expect(await seen('pread', at, 0, 6)).toEqual([hex('fiX\0\0\0')]);
  expect(Number((await seen('fstat', at))[5])).toBeGreaterThan(1);
  await hand.must('fsync', at);

  // Attributes.
  await hand.must('chmod', `${at}/f`, 0o640);
  await other.must('utime', `${at}/f`, 1_234_567_890);
  expect((await seen('stat', `${at}/f`)).slice(3)).toEqual(['20000', String(0o640), '1234567890']);
  for (const value of ['short', 'x'.repeat(3000), 'y'.repeat(40_000)]) {
    await hand.must('setxattr', `${at}/f`, 'user.a', value);
    await other.must('setxattr', `${at}/f`, 'user.b', `${value}!`);
    expect([...(await seen('getxattr', `${at}/f`, 'user.a')), ...(await seen('getxattr', `${at}/f`, 'user.b'))]).toEqual([value, `${value}!`]);
  }
  await other.must('removexattr', `${at}/f`, 'user.a');
  expect(await seen('getxattr', `${at}/f`, 'user.a')).toEqual(['ENODATA']);

  // Names.
  await other.must('link', `${at}/f`, `${at}/g`);
  expect((await seen('stat', `${at}/f`)).slice(1, 3)).toEqual([ino, '2']);
  await hand.must('rename', `${at}/f`, `${at}/h`);
  expect([...(await seen('list', at)), ...(await seen('stat', `${at}/f`))]).toEqual(['g', 'h', 'ENOENT']);
  await other.must('symlink', 'g', `${at}/soft`);
  expect([...(await seen('readlink', `${at}/soft`)), ...(await seen('slurp', `${at}/soft`))]).toHaveLength(2);
  await other.must('mkdir', `${at}/d`);
  await hand.must('create', `${at}/d/in`, '');
  expect(await seen('rmdir', `${at}/d`)).toEqual(['ENOTEMPTY']);
  await other.must('rename', `${at}/d`, `${at}/e`);
  await hand.must('rename', `${at}/h`, `${at}/e/in`);
  expect((await seen('stat', `${at}/e/in`)).slice(1, 3)).toEqual([ino, '2']);
  await hand.must('unlink', `${at}/e/in`);
  await other.must('rmdir', `${at}/e`);
  expect([...(await seen('list', at)), ...(await seen('stat', `${at}/e/in`))]).toEqual(['g', 'soft', 'ENOENT']);

  // File locks of the whole cluster: shared by all, one alone, and who waits gets it when it is given up.
  await Promise.all(all.map((one) => one.must('flock', at, SH)));
  expect((await other.call('flock', at, EX | NB)).error).toBe('EAGAIN');
  // A conversion that fails has given up what was held (flock(2)).
  for (const one of all) await one.must('flock', at, UN);
  await hand.must('flock', at, EX);
  for (const one of others) expect((await one.call('flock', at, SH | NB)).error).toBe('EAGAIN');
  let waited = true;
  const waiting = other.must('flock', at, EX).then(() => (waited = false));
  await hand.must('pwrite', at, 0, hex('under lock'));
  expect(waited).toBe(true);
  await hand.must('flock', at, UN);
  await waiting;
  expect(await other.must('pread', at, 0, 10)).toEqual([hex('under lock')]);
  await other.must('flock', at, UN);

  // Unlinked and open: it is read and written by whoever has it open, until the last one closes it.
  await other.must('unlink', `${at}/g`);
  expect(await seen('stat', `${at}/g`)).toEqual(['ENOENT']);
  for (const [i, one] of all.entries()) {
    await one.must('pwrite', at, 50_000, hex(`still ${one.name}`.padEnd(30)));
    for (const reader of all.slice(i)) expect(await reader.must('pread', at, 50_000, 30)).toEqual([hex(`still ${one.name}`.padEnd(30))]);
    await one.must('close', at);
  }
  await other.must('unlink', `${at}/soft`);
  await hand.must('rmdir', at);
}

/** All hands make the same names, and each name has one maker; then all rename the same files, and none is lost or there twice. */
async function storms(hands: readonly Hand[]): Promise<void> {
  const names = Array.from({ length: 12 }, (_, i) => `storm/n${i}`);
  await hands[0].must('mkdir', 'storm');
  const makers = await Promise.all(hands.map(async (hand) => {
    const made: [string, string][] = [];
    for (const name of names) {
      const { error, values } = await hand.call('create', name, hex(hand.name));
      if (error === undefined) made.push([name, values[0]]);
      else expect(error).toBe('EEXIST');
    }
    return made;
  }));
  const made = new Map(makers.flat());
  expect([makers.flat().length, made.size]).toEqual([names.length, names.length]);
  for (const [i, hand] of hands.entries()) {
    expect(await hand.must('list', 'storm')).toHaveLength(names.length);
    for (const [name, ino] of makers[i]) {
      expect((await hands[0].must('stat', name))[1]).toBe(ino);
      expect(await hands.at(-1)!.must('slurp', name)).toEqual([hex(hand.name)]);
    }
  }
  // Each takes all names for itself: who gets a name has the file.
  const taken = await Promise.all(hands.map(async (hand) => {
    const mine: string[] = [];
    for (const [i, name] of names.entries()) {
      const { error } = await hand.call('rename', name, `storm/${hand.name}-${i}`);
      if (error === undefined) mine.push(`${hand.name}-${i}`);
      else expect(error).toBe('ENOENT');
    }
    return mine;
  }));
  expect(taken.flat()).toHaveLength(names.length);
  for (const hand of hands) expect(await hand.must('list', 'storm')).toEqual(taken.flat().toSorted());
  await Promise.all(hands.map(async (hand, i) => {
    for (const name of taken[(i + 1) % hands.length]) await hand.must('unlink', `storm/${name}`);
  }));
  await hands[0].must('rmdir', 'storm');
}

/** The mix, in rounds: all hands at random subjects for some seconds, then all look at everything, then models judge. */
async function mix(hands: readonly Hand[], random: Random, minutes: number): Promise<number> {
  const attic = new Attic('attic');
  const ofOurs = (hand: Hand): 'bare' | 'never' => (hand.name.startsWith('ours') ? 'bare' : 'never');
  const subjects: Subject[] = [
    new Names('few', 1), new Names('names', 3), new Places('near', 48, 4), new Places('far', 5000, 8), new Places('clusters', 70_000, 6), new Facts('facts'),
    new Counter('counter'), new Log('log', () => 'locked'), new Log('ours', ofOurs), attic,
  ];
  for (const [i, subject] of subjects.entries()) await subject.begin(hands[i % hands.length]);
  const dice = hands.map(() => random.fork());
  const end = performance.now() + minutes * 60_000;
  let rounds = 0;
  for (; performance.now() < end; rounds++) {
    const pause = Math.min(end, performance.now() + 10_000);
    await Promise.all(hands.map(async (hand, i) => {
      while (performance.now() < pause) await dice[i].pick(subjects).step(hand, dice[i]);
    }));
    for (const subject of subjects) {
      for (const hand of hands) await subject.look(hand);
      await subject.settle(random.pick(hands));
    }
  }
  await attic.end(hands[0]);
  return rounds;
}

test(`nodes ${NODES} on one volume; a mix of ${MINUTES} minutes`, { timeout: (MINUTES * 60 + 900) * 1000 }, async () => {
  const random = new Random(seed('mix'));
  const lun = path.join(tempDir(cleanup, 'mix'), 'lun');
  await mkfs(lun, { size: 512 << 20, blockSize: 4096, clusterSize: 4096, slots: NODES.length, cluster: 'ocfs2', features: 'xattr,indexed-dirs,refcount' });
  const { members } = await mixedCluster(cleanup, { lun, kinds: NODES, hands: HANDS, settings: { threshold: 7, idleMs: 5000 } });
  try {
    await Promise.all(members.map((member) => member.mount()));
    const hands = await Promise.all(members.map((member) => member.hands()));
    const firsts = hands.map(([first]) => first);
    for (const hand of firsts) await everyOperation(hand, firsts.filter((one) => one !== hand));
    await storms(hands.flat());
    if (MINUTES > 0) {
      const started = performance.now();
      const rounds = await mix(hands.flat(), random, MINUTES);
      console.log(`mix: ${counts.calls} calls in ${rounds} rounds, ${Math.round((performance.now() - started) / 1000)} s; ${counts.tolerated} refusals for what others did at the same time`);
      expect(counts.calls).toBeGreaterThan(100);
    }
    for (const { kernel, name } of members) if (kernel) expect((await kernel.complaints()).filter((line) => !OF_KERNELS.test(line)), name).toEqual([]);
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${await lastWords(members)}`, { cause: error });
  }
  for (const member of members) await member.stop();
  // Two nodes that let go of an unlinked file at one moment leave it to each other: an orphan until somebody looks, as whoever opens the volume to write
  // does. (A copy: the LUN's file is behind loop devices.)
  const copy = `${lun}.copy`;
  await must('cp', ['--sparse=always', lun, copy]);
  await must(process.execPath, [LUNFS, 'mkdir', '--offline', `${copy}:/looked-at`]);
  await mustBeClean(copy);
  await must(process.execPath, [LUNFS, 'check', copy]);
});

/**
 * What kernel nodes say among themselves, too: of a name that another node made or took away between Linux's walk to it and the operation
 * (fs/ocfs2/namei.c, dir.c), and EIO (5) of a directory that has another parent by then. With `npm run soak -- --cluster --nodes kk` they do.
 */
const OF_KERNELS = /ocfs2_(rename|link|mknod|create|mkdir|check_dir_for_entry):\d+ ERROR: status = -(2|13|17)$|ocfs2_rename:\d+ ERROR: status = -5$/;
