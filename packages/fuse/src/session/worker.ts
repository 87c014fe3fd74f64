/**
 * A reader of /dev/fuse: blocks in read(2), answers what it can by itself (decide.ts), hands everything else to the main thread.
 * It has no event loop while the connection lives: what the main thread posts is fetched when the lane says there is mail.
 *
 * It never waits for the main thread or a lock, and never answers an error about data: a device that fails, a gate that is shut and
 * a short read are all handed to the owner, who knows what to say.
 */
import fs from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { InternalError, monotonicMs } from '@lunfs/device';
import { printReply, printRequest } from '../protocol/print.js';
import { putHeader } from '../protocol/replies.js';
import { OUT_HEADER, WRITE_OUT } from '../protocol/structs.js';
import { decide, Plan, WorkerFiles } from './decide.js';
import type { FileNews } from './decide.js';
import { DATA_AT, LaneProducer, MESSAGE_AT, MESSAGE_MAX, REPLY_AT, slotBase } from './lane.js';
import type { Segment } from './lane.js';
import type { WorkerReport, WorkerStart } from './messages.js';
import { Readers } from './readers.js';

const start = workerData as WorkerStart;
if (parentPort === null) throw new InternalError('FUSE_WORKER', 'the FUSE worker was started as a program');
const port = parentPort;
const report = (message: WorkerReport) => port.postMessage(message);
const lane = new LaneProducer(start.lane, start.bell, (segment) => start.segments.postMessage(segment));
const anyWrote = new Int32Array(start.wrote);
const readers = new Readers(start.readers, start.baseReaders);
const files = new WorkerFiles();
const plan = new Plan();
Error.stackTraceLimit = 0; // errors of system calls are part of the normal path here

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

function readMail(): void {
  for (let mail = receiveMessageOnPort(start.news); mail !== undefined; mail = receiveMessageOnPort(start.news)) {
    files.apply(mail.message as FileNews);
  }
}

/** Write a reply. ENOENT: the request was interrupted or aborted meanwhile, nobody waits for it. */
function reply(segment: Segment, at: number, length: number): void {
  for (;;) {
    try {
      fs.writeSync(start.fd, segment.bytes, at, length);
      return;
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EINTR' || code === 'EAGAIN') continue;
      if (code === 'ENOENT' || code === 'ENODEV') return;
      throw error;
    }
  }
}

/** Do the planned I/O on the device; false when the owner must do it. Bytes go to or come from `at` in the slot's segment. */
function transfer(segment: Segment, at: number, write: boolean): boolean {
  const { file } = plan;
  if (!file.gate.enter(plan.epoch, monotonicMs(), write)) return false;
  try {
    let done = 0;
    for (let i = 0; i < plan.count; i++) {
      const length = plan.length[i];
      const moved = write
        ? fs.writeSync(file.fd, segment.bytes, at + done, length, plan.device[i])
        : fs.readSync(file.fd, segment.bytes, at + done, length, plan.device[i]);
      if (moved !== length) return false;
      done += length;
    }
    return true;
  } catch {
    return false;
  } finally {
    // Before `leave`: who has recalled the mapping must find the mark.
    if (write && file.wrote.set(monotonicMs())) Atomics.add(anyWrote, 0, 1);
    file.gate.leave();
  }
}

/** Carry out the plan for the message at `base`; false when it was not answered and is to be handed over. */
function serve(verdict: 'read' | 'write', segment: Segment, base: number, length: number): boolean {
  const at = base + MESSAGE_AT;
  const trace = start.trace ? printRequest(segment.bytes.subarray(at, at + length)) : '';
  const data = base + DATA_AT;
  if (verdict === 'read') {
    if (!transfer(segment, data, false)) return false;
    putHeader(segment.view, base + REPLY_AT, OUT_HEADER.size + plan.size, 0, plan.unique);
    if (start.trace) traced(trace, 'READ', segment, base + REPLY_AT, OUT_HEADER.size + plan.size);
    reply(segment, base + REPLY_AT, OUT_HEADER.size + plan.size);
    return true;
  }
  if (!transfer(segment, data, true)) return false;
  putHeader(segment.view, at, OUT_HEADER.size + WRITE_OUT.size, 0, plan.unique);
  WRITE_OUT.write(segment.view, at + OUT_HEADER.size, { size: plan.size });
  if (start.trace) traced(trace, 'WRITE', segment, at, OUT_HEADER.size + WRITE_OUT.size);
  reply(segment, at, OUT_HEADER.size + WRITE_OUT.size);
  return true;
}

function traced(request: string, op: 'READ' | 'WRITE', segment: Segment, at: number, length: number): void {
  report({ kind: 'trace', lines: [`${request} (in place)`, printReply(op, segment.bytes.subarray(at, at + length))] });
}

function run(): string {
  let slot = lane.take();
  readers.begin();
  for (;;) {
    const segment = lane.segment(slot);
    const base = slotBase(slot);
    let length: number;
    try {
      length = fs.readSync(start.fd, segment.bytes, base + MESSAGE_AT, MESSAGE_MAX, null);
    } catch (error) {
      const code = codeOf(error);
      // ENOENT: the request was taken back (interrupted) while it was being copied to us.
      if (code === 'EINTR' || code === 'EAGAIN' || code === 'ENOENT') continue;
      return code;
    }
    if (lane.hasMail()) readMail();
    const verdict = decide(segment.view, base + MESSAGE_AT, length, files, plan);
    let served = false;
    if (verdict !== 'forward') {
      readers.pause();
      served = serve(verdict, segment, base, length);
    }
    if (!served) {
      lane.forward(slot, length);
      slot = lane.take();
    }
    if (verdict !== 'forward') readers.begin();
  }
}

let reason: string;
try {
  reason = run();
} catch (error) {
  reason = codeOf(error);
}
readers.end();
report({ kind: 'ended', reason });
start.segments.close();
start.news.close();
