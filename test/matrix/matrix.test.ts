/**
 * The differential matrix: volumes of every geometry and set of features go back and forth between the engine and Linux's
 * OCFS2. We fill; Linux reads every byte, attribute and count, and changes what it finds and adds its own; we read what
 * Linux left, and change it; Linux reads again. At each hand-over fsck.ocfs2 and our verifier find nothing and
 * debugfs.ocfs2 agrees on every inode.
 */
import path from 'node:path';
import { type FileDevice, openDevice } from '@lunfs/device';
import { Volume, checkVolume } from '@lunfs/ocfs2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { COVERING, type Cell, FEATURES, cellNamed } from '../../scripts/lib/matrix-cells.mjs';
import { compareWithDebugfs } from '../kernel/debugfs-stat.js';
import { EngineTree, type Tree, expectSameTree } from '../support/engine-tree.js';
import { KNOWN_FALSE_POSITIVES, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, seed, tempDir } from '../support/temp.js';
import { Waivers } from '../support/waivers.js';
import { LinuxNode } from './linux.js';
import { change, populate } from './population.js';
import { type State, stateOf } from './state.js';

/** Disks of one node. */
const MOST_DISKS = 20;

/** The cells the runner names, else the covering set. */
const cells = process.env.LUNFS_MATRIX_CELLS?.split(',').map(cellNamed) ?? COVERING;
const SEED = seed('matrix');
const PATIENCE = (cells.some(({ scale }) => scale === 'big') ? 60 : 10) * 60_000;

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'matrix');
const image = ({ name }: Cell) => path.join(directory, `${name}.img`);

async function withDevice<T>(cell: Cell, write: boolean, work: (device: FileDevice) => Promise<T>): Promise<T> {
  const opened = await openDevice(image(cell), { write });
  try {
    return await work(opened);
  } finally {
    await opened.close();
  }
}

function withVolume<T>(cell: Cell, readOnly: boolean, work: (tree: EngineTree) => Promise<T>): Promise<T> {
  return withDevice(cell, !readOnly, async (opened) => {
    const volume = await Volume.mount(opened, { readOnly });
    const result = await work(new EngineTree(volume));
    await volume.unmount();
    return result;
  });
}

/** Nothing is wrong with the volume. `waivers`: once Linux had it; `last`: whether nobody else did since. */
async function handOver(cell: Cell, step: (what: string) => void, { waivers, last }: { waivers?: Waivers; last?: 'Linux' } = {}): Promise<void> {
  await withDevice(cell, false, async (opened) => {
    step('verifier');
    const { findings } = await checkVolume(opened);
    if (last === 'Linux') waivers?.learn(findings);
    expect(findings.filter((finding) => !KNOWN_FALSE_POSITIVES.includes(finding.code) && !waivers?.waives(finding))).toEqual([]);
    step('debugfs.ocfs2');
    await compareWithDebugfs(cleanup, opened, image(cell));
  });
  step('fsck.ocfs2');
  await mustBeClean(image(cell), (finding) => KNOWN_FALSE_POSITIVES.includes(finding.code) || waivers?.waivesFsck(finding) === true);
}

function expectSame(found: State, expected: State, what: string): void {
  // Of long lines only where they begin to differ.
  const brief: [Tree, Tree] = [new Map<string, string>(), new Map<string, string>()];
  for (const path of new Set([...found.entries.keys(), ...expected.entries.keys()])) {
    const lines = [found.entries.get(path), expected.entries.get(path)];
    if (lines[0] === lines[1]) continue;
    const [a = '', b = ''] = lines;
    const at = Array.from(a).findIndex((c, i) => b[i] !== c);
    for (const [i, line] of lines.entries()) if (line !== undefined) brief[i].set(path, line.length < 400 ? line : `${line.slice(0, 140)} … ${line.slice(Math.max(140, at - 100), at + 200)}`);
  }
  expectSameTree(...brief, what);
  expect(found.quota, `${what}: quota`).toEqual(expected.quota);
  expect(found.data, `${what}: all data`).toBe(expected.data);
}

/** Says how long each step of a large cell takes. */
function stepsOf({ name, scale }: Cell): (what: string) => void {
  let last = performance.now(), doing = 'start';
  return (what) => {
    const now = performance.now();
    if (scale !== 'small' && now - last > 1000) console.log(`${name}: ${doing} took ${((now - last) / 1000).toFixed(1)} s`);
    [last, doing] = [now, what];
  };
}

const batches = Array.from({ length: Math.ceil(cells.length / MOST_DISKS) }, (_, i) => cells.slice(i * MOST_DISKS, (i + 1) * MOST_DISKS));

describe.each(batches.map((batch) => ({ batch, names: batch.map(({ name }) => name).join(', ') })))('$names', ({ batch }) => {
  const told = new Map<string, State>();
  const failed = new Set<string>();
  const node = new Cleanup();
  let linux: LinuxNode;
  const quotaTypes = new Map<string, string>();

  /** A stage of every cell; one that failed goes no further. */
  const stage = (what: string, work: (cell: Cell, disk: number, step: (what: string) => void) => Promise<void>) => {
    test.for(batch)(`$name ${what}`, { timeout: PATIENCE }, async (cell, { skip }) => {
      skip(failed.has(cell.name), 'an earlier stage failed');
      failed.add(cell.name);
      const step = stepsOf(cell);
      await work(cell, batch.indexOf(cell), step);
      step('');
      failed.delete(cell.name);
    });
  };

  stage('is filled by us', async (cell, _, step) => {
    step('mkfs');
    const { blockSize, clusterSize, size } = cell;
    await mkfs(image(cell), { size, blockSize, clusterSize, slots: 2, journalSize: clusterSize >= 512 << 10 ? 17 << 20 : cell.scale === 'small' ? 4 << 20 : 64 << 20, ...FEATURES[cell.features] });
    told.set(cell.name, await withVolume(cell, false, async (tree) => {
      quotaTypes.set(cell.name, (tree.volume.quota?.types ?? []).map((type) => (type === 'user' ? '0' : '1')).join(','));
      await populate(tree, cell, SEED, step);
      step('reading');
      return stateOf(tree);
    }));
    await handOver(cell, step);
  });

  describe('Linux', () => {
    beforeAll(async () => {
      linux = await LinuxNode.start(node, batch.map(image), PATIENCE);
    }, PATIENCE);
    afterAll(() => node.run());

    stage('is read and changed by Linux', async (cell, disk, step) => {
      step('Linux');
      const { geo } = await withVolume(cell, true, (tree) => Promise.resolve(tree.volume));
      const { read, changed } = await linux.readAndChange(disk, geo, quotaTypes.get(cell.name)!);
      expectSame(read, told.get(cell.name)!, `${cell.name} as Linux reads it`);
      told.set(cell.name, changed);
    });

    stage('reads as Linux left it, and is changed by us', async (cell, _, step) => {
      const waivers = new Waivers(image(cell), cell.blockSize);
      await handOver(cell, step, { waivers, last: 'Linux' });
      step('reading');
      await withVolume(cell, true, async (tree) => expectSame(await stateOf(tree), told.get(cell.name)!, `${cell.name} as we read it`));
      step('changing');
      told.set(cell.name, await withVolume(cell, false, async (tree) => {
        await change(tree, cell, SEED + 1);
        return stateOf(tree);
      }));
      await handOver(cell, step, { waivers });
    });

    stage('is read by Linux again', async (cell, disk, step) => {
      step('Linux');
      expectSame(await linux.read(disk, quotaTypes.get(cell.name)!), told.get(cell.name)!, `${cell.name} as Linux reads it again`);
    });

    test('leaves the kernel without complaint', { timeout: PATIENCE }, () => linux.shutdown());
  });
});
