/** Volumes for the volume process: image files made by mkfs.ocfs2, a run directory of their own, and both checkers at the end. */
import * as fs from 'node:fs';
import path from 'node:path';
import { openDevice } from '@lunfs/device';
import { type StartOptions, type StartedProcess, type VolumeProcess, connectVolumeProcess, startVolumeProcess } from '@lunfs/host';
import { checkVolume } from '@lunfs/ocfs2';
import { mkfs, type MkfsOptions, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { type Cleanup, tempDir } from '../../../../test/support/temp.js';

/** What fsck.ocfs2, and we with it, say of healthy volumes: see test/support/ocfs2-tools.ts. */
const FALSE_POSITIVES = ['INODE_SPARSE_SIZE', 'DX_TREE_MISSING'];

export interface TestImage {
  readonly directory: string;
  readonly image: string;
  readonly mountPoint: string;
  /** Start a volume process, ended by the clean-up if it still lives. */
  start(options?: Omit<StartOptions, 'device'>): Promise<StartedProcess>;
  connect(): Promise<VolumeProcess>;
  /** Both checkers find nothing, and no journal waits for replay. The volume must not be in use. */
  check(): Promise<void>;
}

export async function testImage(cleanup: Cleanup, options: MkfsOptions = {}): Promise<TestImage> {
  const directory = tempDir(cleanup, 'host');
  fs.chmodSync(directory, 0o755); // other users must reach the mount
  const image = path.join(directory, 'lun');
  const mountPoint = path.join(directory, 'mnt');
  fs.mkdirSync(mountPoint);
  process.env.LUNFS_RUN_DIR = path.join(directory, 'run');
  await mkfs(image, { size: 1 << 30, blockSize: 4096, clusterSize: 4096, slots: 2, journalSize: 16 << 20, ...options });
  const started: StartedProcess[] = [];
  cleanup.add(async () => {
    for (const one of started) one.kill('SIGKILL');
    await Promise.all(started.map((one) => one.exited));
  });
  return {
    directory, image, mountPoint,
    start: async (more = {}) => {
      const one = await startVolumeProcess({ device: image, ...more });
      started.push(one);
      return one;
    },
    connect: () => connectVolumeProcess(image),
    check: async () => {
      const device = await openDevice(image);
      try {
        const findings = (await checkVolume(device)).findings.filter((one) => !FALSE_POSITIVES.includes(one.code));
        if (findings.length > 0) throw new Error(`our verifier: ${findings.slice(0, 20).map((one) => `[${one.code}] ${one.message}`).join('\n')}`);
      } finally {
        await device.close();
      }
      await mustBeClean(image, FALSE_POSITIVES);
    },
  };
}

/** Resolves to how it ended; throws when it has not within `ms`. */
export async function ends(one: StartedProcess, ms = 60_000): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`process ${one.pid} still lives after ${ms} ms${one.log ? `\n${fs.readFileSync(one.log, 'utf8')}` : ''}`)), ms);
  });
  try {
    return await Promise.race([one.exited, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The process's log so far. */
export function logOf(one: StartedProcess): string {
  return one.log === undefined ? '' : fs.readFileSync(one.log, 'utf8');
}
