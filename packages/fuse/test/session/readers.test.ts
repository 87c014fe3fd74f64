/** Readers in real threads: no wake-up is lost, whoever sleeps gets up when the others end. */
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { Readers, READERS_BYTES } from '../../src/session/readers.js';

const MODULE = new URL('../../dist/session/readers.js', import.meta.url).href;
const PROGRAM = `
const { workerData, parentPort } = require('node:worker_threads');
import(workerData.module).then(({ Readers }) => {
  const readers = new Readers(workerData.memory, 2);
  readers.begin();
  for (let i = 0; i < workerData.rounds; i++) {
    readers.pause();
    for (let spin = (i * 7919) % 500; spin > 0; spin--) Atomics.load(workerData.busy, 0);
    readers.begin();
  }
  readers.end();
  parentPort.postMessage('done');
});`;

describe('Readers', () => {
  it('lets `base` read without waiting, and pausing makes room', () => {
    const memory = new SharedArrayBuffer(READERS_BYTES);
    const readers = new Readers(memory, 2);
    const counts = new Int32Array(memory);
    readers.begin();
    readers.begin();
    readers.pause();
    readers.begin(); // would sleep for ever without the room
    expect([...counts]).toEqual([2, 0, 0]);
    readers.end();
    readers.end();
    expect(counts[0]).toBe(0);
  });

  it.each([1, 2, 3, 6])('%i threads all come to their end', async (threads) => {
    const memory = new SharedArrayBuffer(READERS_BYTES);
    const busy = new Int32Array(new SharedArrayBuffer(4));
    await Promise.all(Array.from({ length: threads }, () => new Promise<void>((resolve, reject) => {
      const worker = new Worker(PROGRAM, { eval: true, workerData: { module: MODULE, memory, busy, rounds: 3000 } });
      worker.once('message', () => resolve());
      worker.once('error', reject);
    })));
    expect([...new Int32Array(memory)].slice(0, 2)).toEqual([0, 0]);
  });
});
