/**
 * The thread of one heartbeat region: a descriptor and buffers of its own, blocking calls, no event loop. Nothing but the device and the
 * scheduler of the host can hold it up (docs/design.md, section 2).
 */
import { constants, closeSync, fstatSync, openSync, readSync, readlinkSync, writeSync } from 'node:fs';
import os from 'node:os';
import { workerData } from 'node:worker_threads';
import { PAGE, alignedMemory, blockDeviceFacts, deviceNumber } from '@lunfs/device';
import { HEARTBEAT_MS } from '../config/timeouts.js';
import { NodeMap } from '../node-map.js';
import { Beating, type RegionReport, drive, messageOf } from './beating.js';
import { systemClock } from './clock.js';
import { FenceDeadline } from './fence-deadline.js';
import { SharedLiveCounts } from './live-nodes.js';
import { LEAVE, RUN, STOP, type ThreadStart } from './region-thread.js';
import { REGION_BLOCKS, type RegionRequest } from './region.js';
import { WatchdogFeed } from './watchdog-feed.js';

function run(start: ThreadStart): void {
  const { port, blockBytes, index } = start;
  const control = new Int32Array(start.control);
  const configured = new Uint8Array(start.configured);
  const fence = new FenceDeadline(start.fence);
  const watchdog = start.watchdog && new WatchdogFeed(start.watchdog.memory);
  let ended = false;
  const report = (what: RegionReport): void => {
    if (what.kind === 'ended') ended = true;
    if (what.kind === 'beat' && what.good && start.watchdog && watchdog?.renewed(start.watchdog.place)) feed(start.watchdog.fd);
    port.postMessage(what);
  };
  let fd = -1;
  try {
    preferMe();
    fd = openDevice(start);
    const buffers = new Uint8Array(alignedMemory(REGION_BLOCKS * blockBytes + 2 * PAGE));
    const sector = buffers.subarray(buffers.length - PAGE, buffers.length - PAGE + blockBytes);
    const perform = (request: RegionRequest): Uint8Array | undefined => {
      fence.busy(index, systemClock.monotonic());
      try {
        if (request.op === 'write') {
          sector.set(request.block);
          whole(writeSync(fd, sector, 0, blockBytes, start.offset + request.node * blockBytes), blockBytes);
          return undefined;
        }
        const bytes = buffers.subarray(0, request.count * blockBytes);
        for (let done = 0; done < bytes.length; ) {
          const read = readSync(fd, bytes, done, bytes.length - done, start.offset + request.first * blockBytes + done);
          if (read === 0 || read % blockBytes !== 0) whole(read, blockBytes);
          done += read;
        }
        return bytes;
      } finally {
        fence.busy(index, undefined);
      }
    };
    const beating = new Beating({
      ...start, fence, live: new SharedLiveCounts(start.live), configured: () => NodeMap.fromBytes(configured), clock: systemClock, report,
    });
    drive(beating.begin(), perform);
    for (;;) {
      const begun = systemClock.monotonic();
      if (!drive(beating.iterate(), perform)) return;
      Atomics.wait(control, 0, RUN, Math.max(0, HEARTBEAT_MS - (systemClock.monotonic() - begun)));
      const told = Atomics.load(control, 0);
      if (told === STOP) return report({ kind: 'ended', why: 'stopped' });
      if (told === LEAVE) return drive(beating.leave(), perform);
    }
  } catch (error) {
    if (!ended) report({ kind: 'ended', why: 'failed', failed: messageOf(error) });
  } finally {
    if (fd >= 0) closeSync(fd);
    port.close();
  }
}

/** With O_DIRECT: nothing between us and the other nodes, and no sector but ours is written. */
function openDevice({ device, blockBytes }: ThreadStart): number {
  const fd = openSync(device, constants.O_RDWR | constants.O_DIRECT | constants.O_NOCTTY);
  const stats = fstatSync(fd);
  if (stats.isBlockDevice()) {
    const { logicalBlockSize } = blockDeviceFacts(deviceNumber(stats.rdev));
    if (logicalBlockSize !== blockBytes) {
      closeSync(fd);
      throw new Error(`${device} has logical blocks of ${logicalBlockSize} bytes, the region is to be used in blocks of ${blockBytes}`);
    }
  }
  return fd;
}

function whole(moved: number, wanted: number): void {
  if (moved !== wanted) throw new Error(`${moved} bytes moved where ${wanted} were asked for`);
}

/** The kernel's heartbeat threads have the highest priority of ordinary threads, too. Without the right to it we do without. */
function preferMe(): void {
  try {
    os.setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), os.constants.priority.PRIORITY_HIGHEST);
  } catch {
    // Not root.
  }
}

function feed(fd: number): void {
  try {
    writeSync(fd, '\0');
  } catch {
    // A watchdog that cannot be fed will bark.
  }
}

Error.stackTraceLimit = 0;
run(workerData as ThreadStart);
