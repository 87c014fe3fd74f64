import fs from 'node:fs';
import { expect, test } from 'vitest';
import { Cleanup, exec, must, randomFrom, tempDir } from '../support/temp.js';

test('a clean-up runs every step, last first, and reports what failed', async () => {
  const cleanup = new Cleanup();
  const order: string[] = [];
  const directory = tempDir(cleanup, 'temp');
  cleanup.add(() => { order.push('first'); });
  cleanup.add(() => { throw new Error('broken step'); });
  cleanup.add(async () => { order.push('second'); });
  await expect(cleanup.run()).rejects.toThrow(/broken step/);
  expect(order).toEqual(['second', 'first']);
  expect(fs.existsSync(directory)).toBe(false);
});

test('exec gives status, output and input, and kills what outlives its time', async () => {
  expect(await exec('sh', ['-c', 'cat; echo err >&2; exit 3'], { input: 'in' })).toEqual({ status: 3, signal: null, stdout: 'in', stderr: 'err\n' });
  await expect(must('sh', ['-c', 'echo why >&2; exit 4'])).rejects.toThrow(/status 4\nwhy/);
  await expect(exec('sleep', ['30'], { timeoutMs: 100 })).rejects.toThrow(/still running after 100 ms/);
});

test('the generator depends on the seed alone', () => {
  const [a, b, c] = [randomFrom(7), randomFrom(7), randomFrom(8)];
  const first = [a(), a(), a()];
  expect([b(), b(), b()]).toEqual(first);
  expect(c()).not.toBe(first[0]);
});
