/** The worker's decision, with no worker: which requests it may serve in place, and that nothing else slips through. */
import { Gate } from '@lunfs/device';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { O, WRITE_FLAG } from '../../src/protocol/constants.js';
import { decide, Plan, WorkerFiles, WROTE_BYTES, WroteMark } from '../../src/session/decide.js';
import { transfer, viewOf } from '../support/messages.js';

const BLOCK = 4096;

function setup(runs: readonly (readonly [number, number, number])[], options: { write?: boolean; directIo?: boolean } = {}): { files: WorkerFiles; gate: Gate; wrote: SharedArrayBuffer } {
  const gate = new Gate();
  const files = new WorkerFiles();
  const wrote = new SharedArrayBuffer(WROTE_BYTES);
  files.apply({ kind: 'open', fh: 7, fd: 99, alignment: BLOCK, gate: gate.memory, wrote, directIo: options.directIo ?? false });
  files.apply({ kind: 'map', fh: 7, epoch: gate.epoch, write: options.write ?? true, runs: Float64Array.from(runs.flat()) });
  return { files, gate, wrote };
}

function verdict(files: WorkerFiles, bytes: Buffer, plan = new Plan()) {
  return decide(viewOf(bytes), 0, bytes.length, files, plan);
}

describe('decide', () => {
  it('serves an aligned READ and WRITE inside one run, at the right place of the device', () => {
    const { files } = setup([[0, 1 << 20, 1 << 30]]);
    const plan = new Plan();
    expect(verdict(files, transfer({ fh: 7, offset: 8192, size: 12288 }), plan)).toBe('read');
    expect([plan.count, plan.device[0], plan.length[0], plan.size, plan.unique]).toEqual([1, (1 << 30) + 8192, 12288, 12288, 2]);
    expect(verdict(files, transfer({ fh: 7, offset: 0, size: BLOCK }, Buffer.alloc(BLOCK)), plan)).toBe('write');
    expect(plan.device[0]).toBe(1 << 30);
  });

  it('splits a request over runs that are apart on the device', () => {
    const { files } = setup([[0, BLOCK, 10 * BLOCK], [BLOCK, BLOCK, 90 * BLOCK], [2 * BLOCK, 4 * BLOCK, 40 * BLOCK]]);
    const plan = new Plan();
    expect(verdict(files, transfer({ fh: 7, offset: 0, size: 4 * BLOCK }), plan)).toBe('read');
    expect([...plan.device.subarray(0, plan.count)]).toEqual([10 * BLOCK, 90 * BLOCK, 40 * BLOCK]);
    expect([...plan.length.subarray(0, plan.count)]).toEqual([BLOCK, BLOCK, 2 * BLOCK]);
  });

  it('gives the owner what is not wholly mapped, unaligned, of another epoch, unknown or too fragmented', () => {
    const { files, gate } = setup([[0, 4 * BLOCK, 0], [8 * BLOCK, 1000, 8 * BLOCK]]);
    const of = (offset: number, size: number) => verdict(files, transfer({ fh: 7, offset, size }));
    expect(of(0, 4 * BLOCK)).toBe('read');
    expect(of(0, 5 * BLOCK)).toBe('forward');
    expect(of(4 * BLOCK, BLOCK)).toBe('forward');
    expect(of(512, BLOCK)).toBe('forward');
    expect(of(0, 1000)).toBe('forward');
    expect(of(8 * BLOCK, BLOCK)).toBe('forward'); // the file ends inside the block
    expect(of(0, 0)).toBe('forward');
    expect(of(0, 2 << 20)).toBe('forward');
    expect(verdict(files, transfer({ fh: 8, offset: 0, size: BLOCK }))).toBe('forward');
    void gate.recall();
    expect(of(0, BLOCK)).toBe('forward');
    const shreds = Array.from({ length: 40 }, (_, i) => [i * BLOCK, BLOCK, (100 - 2 * i) * BLOCK] as const);
    expect(verdict(setup(shreds).files, transfer({ fh: 7, offset: 0, size: 20 * BLOCK }))).toBe('forward');
  });

  it('does not write by a mapping for reading, nor where setuid bits or O_SYNC are the owner’s to honour', () => {
    const data = Buffer.alloc(BLOCK);
    expect(verdict(setup([[0, BLOCK, 0]], { write: false }).files, transfer({ fh: 7, offset: 0, size: BLOCK }, data))).toBe('forward');
    const { files } = setup([[0, BLOCK, 0]]);
    expect(verdict(files, transfer({ fh: 7, offset: 0, size: BLOCK, read_flags: WRITE_FLAG.KILL_SUIDGID }, data))).toBe('forward');
    expect(verdict(files, transfer({ fh: 7, offset: 0, size: BLOCK, flags: O.DSYNC }, data))).toBe('write');
    expect(verdict(setup([[0, BLOCK, 0]], { directIo: true }).files, transfer({ fh: 7, offset: 0, size: BLOCK, flags: O.DSYNC }, data))).toBe('forward');
  });

  it('forgets a closed file, and news of an older epoch', () => {
    const { files, gate } = setup([]);
    void gate.recall();
    files.apply({ kind: 'map', fh: 7, epoch: gate.epoch, write: true, runs: Float64Array.of(0, BLOCK, 0) });
    files.apply({ kind: 'map', fh: 7, epoch: gate.epoch - 1, write: true, runs: Float64Array.of(BLOCK, BLOCK, BLOCK) });
    expect(verdict(files, transfer({ fh: 7, offset: 0, size: BLOCK }))).toBe('read');
    expect(verdict(files, transfer({ fh: 7, offset: BLOCK, size: BLOCK }))).toBe('forward');
    files.apply({ kind: 'close', fh: 7 });
    expect(verdict(files, transfer({ fh: 7, offset: 0, size: BLOCK }))).toBe('forward');
  });

  it('never plans a byte outside the mapping, whatever the message says', () => {
    fc.assert(fc.property(
      fc.array(fc.tuple(fc.nat(30), fc.integer({ min: 1, max: 8 }), fc.nat(1000)), { maxLength: 6 }),
      fc.uint8Array({ minLength: 0, maxLength: 200 }), fc.nat(40), fc.nat(20), fc.boolean(), fc.nat(79), fc.nat(255), fc.boolean(),
      (layout, noise, block, blocks, write, where, what, corrupt) => {
        let at = 0;
        const runs = layout.map(([gap, length, device]) => {
          const run = [(at + gap) * BLOCK, length * BLOCK, device * BLOCK] as const;
          at += gap + length;
          return run;
        });
        const { files } = setup(runs);
        const bytes = noise.length > 100 ? Buffer.from(noise) : transfer({ fh: 7, offset: block * BLOCK, size: blocks * BLOCK }, write ? Buffer.alloc(blocks * BLOCK) : undefined);
        if (corrupt && bytes.length > where) bytes[where] = what;
        const plan = new Plan();
        if (verdict(files, bytes, plan) === 'forward') return;
        const view = viewOf(bytes);
        let offset = Number(view.getBigUint64(48, true));
        expect(view.getUint32(56, true)).toBe(plan.size);
        let total = 0;
        for (let i = 0; i < plan.count; i++) {
          const run = runs.find(([from, length]) => offset >= from && offset < from + length);
          expect(run).toBeDefined();
          expect(plan.device[i]).toBe(run![2] + offset - run![0]);
          expect(offset + plan.length[i]).toBeLessThanOrEqual(runs.reduce((end, [from, length]) => Math.max(end, from + length), 0));
          offset += plan.length[i];
          total += plan.length[i];
        }
        expect(total).toBe(plan.size);
      },
    ), { numRuns: 2000 });
  });
});

describe('WroteMark', () => {
  it('is set once and taken once', () => {
    const memory = new SharedArrayBuffer(WROTE_BYTES);
    const [worker, owner] = [new WroteMark(memory), new WroteMark(memory)];
    expect(owner.take()).toBe(-1);
    expect([worker.set(5), worker.set(6)]).toEqual([true, false]);
    expect([owner.take(), owner.take()]).toEqual([6, -1]);
  });
});
