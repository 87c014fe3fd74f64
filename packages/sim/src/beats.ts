/** What beats in a region: the real core (o2cb's `Beating`), as a thread of its own that only power and the path to the disk can hold up. */
import type { Random } from '@lunfs/device';
import type { OpenedVolume } from '@lunfs/host';
import { Beating, FenceDeadline, HEARTBEAT_MS, NodeMap, type RegionRequest, SharedLiveCounts, type StartLoop } from '@lunfs/o2cb';
import type { DiskPath } from './disk.js';
import type { Program } from './program.js';

/** Threads are late by up to so many milliseconds. */
const LATE_MS = 10;

/** `who`: whose thread it is. `began`: told of the first beat that reached the disk. */
export function simBeats(path: DiskPath, who: Program, random: Random, { region: { offset, blockBytes } }: OpenedVolume, began: () => void): StartLoop {
  const { time, lun } = path;
  return (start, report) => {
    const thread = who.threads.add();
    const fence = new FenceDeadline(start.fence);
    /** How the loop is to end: with a goodbye or without. */
    let told: boolean | undefined;
    let wake: (() => void) | undefined;
    let beaten = false;
    const beating = new Beating({
      ...start, blockBytes, fence, live: new SharedLiveCounts(start.live), configured: () => NodeMap.fromBytes(new Uint8Array(start.configured)),
      clock: { monotonic: () => time.now(), wall: () => time.wall(), boot: () => time.now() },
      report: (what) => void time.after(0.01, () => who.exec(() => report(what))),
    });
    const perform = (request: RegionRequest, done: (bytes: Uint8Array | undefined) => void): void => {
      fence.busy(start.index, time.now());
      let bytes: Uint8Array | undefined;
      const write = request.op === 'write' ? { offset: offset + request.node * blockBytes, bytes: request.block } : undefined;
      const landed = (): void => {
        if (request.op === 'read') {
          bytes = new Uint8Array(request.count * blockBytes);
          lun.readSync(offset + request.first * blockBytes, bytes);
        } else if (!beaten) {
          beaten = true;
          began();
        }
      };
      // A thread of its own: the main thread's stalls are not its.
      const exec = (fn: () => void): void => thread.run(fn);
      who.threads.call(thread, () => path.submit({ name: `beat of ${who.name}`, alive: true, fenced: false, exec }, write, landed, () => {
        fence.busy(start.index, undefined);
        done(bytes);
      }));
    };
    const drive = <T>(asks: Generator<RegionRequest, T, Uint8Array | undefined>, then: (value: T) => void, answer?: Uint8Array): void => {
      if (!who.alive) return;
      const step = asks.next(answer);
      if (step.done === true) then(step.value);
      else perform(step.value, (bytes) => drive(asks, then, bytes));
    };
    const iterate = (): void => {
      const begun = time.now();
      drive(beating.iterate(), (more) => {
        if (!more) return;
        const next = (): void => {
          wake = undefined;
          if (told === false) time.after(0.01, () => who.exec(() => report({ kind: 'ended', why: 'stopped' })));
          else if (told === true) drive(beating.leave(), () => undefined);
          else iterate();
        };
        const cancel = time.after(Math.max(0, HEARTBEAT_MS - (time.now() - begun)) + random.float() * LATE_MS, () => thread.run(next));
        wake = () => {
          cancel();
          thread.run(next);
        };
      });
    };
    time.after(0.01, () => thread.run(() => drive(beating.begin(), iterate)));
    return {
      end: (clean) => {
        told ??= clean;
        wake?.();
      },
    };
  };
}
