/**
 * What is on devices of this host, told by a program of its own: a LUN that does not answer keeps nobody waiting but it. (A read from a map that queues waits for a path to come back,
 * and a process in such a read cannot end.)
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { VolumeSignature } from '@lunfs/ocfs2';
import type { Signature } from '@lunfs/san';
import { every } from '../clock.js';
import { lineSplitter } from '../control-protocol.js';

export interface DeviceContent {
  readonly device: string;
  /** A volume of OCFS2. */
  readonly volume?: VolumeSignature;
  /** Whatever else is recognised; most telling first. */
  readonly signatures: readonly Signature[];
  /** Why nothing is known; then the other two say nothing. */
  readonly unknown?: string;
}

/** For a reader of a few blocks: a path that fails over takes some seconds, a cold start of Node on a loaded host as well. */
const ANSWER_MS = 20_000;

/** By device. Every device has an entry. */
export async function contentOf(devices: readonly string[]): Promise<Map<string, DeviceContent>> {
  const found = new Map<string, DeviceContent>();
  if (devices.length === 0) return found;
  const child = spawn(process.execPath, [fileURLToPath(new URL('./probe/main.js', import.meta.url)), JSON.stringify(devices)], { stdio: ['ignore', 'pipe', 'ignore'], cwd: '/' });
  child.stdout.on('data', lineSplitter((line) => {
    const content = JSON.parse(line) as DeviceContent;
    found.set(content.device, content);
  }));
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stop();
      resolve();
    };
    const stop = every(ANSWER_MS, done);
    child.once('close', done);
    child.once('error', done);
  });
  // What hangs in the kernel stays until its device answers; nobody waits for it.
  child.kill('SIGKILL');
  child.stdout.destroy();
  child.unref();
  for (const device of devices) if (!found.has(device)) found.set(device, { device, signatures: [], unknown: `it did not answer a read within ${ANSWER_MS / 1000} s` });
  return found;
}
