// Real threads on the built package: what gate.test.ts proves of the steps holds for the atomics under them.
import { Gate } from '@lunfs/device';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';

const MAP = 0; // epoch of the map handed out, -1 during a recall
const STOP = 1;
const ACTIVE = 2; // one per worker: 1 + epoch of the I/O in flight, 0 when there is none
const ENTERED = 4; // one per worker: requests that got in

const code = `
  const { workerData: { built, memory, cells, me } } = require('node:worker_threads');
  import(built).then(({ Gate }) => {
    const gate = new Gate(memory);
    const shared = new Int32Array(cells);
    while (Atomics.load(shared, ${STOP}) === 0) {
      const epoch = Atomics.load(shared, ${MAP});
      if (epoch < 0 || !gate.enter(epoch, 0, true)) continue;
      Atomics.store(shared, ${ACTIVE} + me, epoch + 1);
      Atomics.add(shared, ${ENTERED} + me, 1);
      Atomics.store(shared, ${ACTIVE} + me, 0);
      gate.leave();
    }
  });`;

it('two workers and an owner that recalls 300 times never overlap', async () => {
  const gate = new Gate();
  const shared = new Int32Array(new SharedArrayBuffer(64));
  const workers = [0, 1].map(
    (me) =>
      new Worker(code, {
        eval: true,
        workerData: { built: import.meta.resolve('@lunfs/device'), memory: gate.memory, cells: shared.buffer, me },
      }),
  );
  try {
    while ([0, 1].some((me) => Atomics.load(shared, ENTERED + me) === 0)) await new Promise((resolve) => setTimeout(resolve, 5));
    for (let i = 1; i <= 300; i++) {
      Atomics.store(shared, MAP, -1);
      const epoch = await gate.recall();
      expect(epoch).toBe(i);
      for (const me of [0, 1]) expect(Atomics.load(shared, ACTIVE + me)).toBe(0);
      Atomics.store(shared, MAP, epoch);
      if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1)); // let them run on the new map
    }
  } finally {
    Atomics.store(shared, STOP, 1);
    await Promise.all(workers.map((worker) => once(worker, 'exit')));
  }
  expect(await gate.recall()).toBe(301);
});
