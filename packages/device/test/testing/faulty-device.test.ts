import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/memory-device.js';
import { Random } from '../../src/random.js';
import { FaultyDevice, type Sleeper } from '../../src/testing/faulty-device.js';
import { contentOf, exercise, filled } from '../support/model.js';

const BLOCK = 512;

function faulty(seed = 1, extra: Partial<ConstructorParameters<typeof FaultyDevice>[1]> = {}): FaultyDevice {
  return new FaultyDevice(new MemoryDevice({ size: 256 * BLOCK }), { random: new Random(seed), ...extra });
}

/** Time that moves only when told. */
class ManualClock implements Sleeper {
  now = 0;
  #waiting: { at: number; resolve: () => void }[] = [];
  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ at: this.now + milliseconds, resolve }));
  }
  async advance(milliseconds: number): Promise<void> {
    this.now += milliseconds;
    for (const { resolve } of this.#waiting.filter((w) => w.at <= this.now)) resolve();
    this.#waiting = this.#waiting.filter((w) => w.at > this.now);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('FaultyDevice', () => {
  it('without faults is a device like any other', async () => {
    await exercise(faulty(), new Random(2), 300, 30_000);
  });

  it('fails the requests that a rule names, and no others', async () => {
    const device = faulty();
    const stop = device.fail({ operations: ['write'], range: [BLOCK, 2 * BLOCK], after: 1, times: 2, errno: 'ENOSPC' });
    const attempt = (offset: number): Promise<void> => device.write(offset, filled(BLOCK, 1));
    await attempt(BLOCK);
    await attempt(0);
    await attempt(2 * BLOCK);
    await expect(attempt(BLOCK)).rejects.toMatchObject({ code: 'DEVICE_WRITE', errno: 'ENOSPC', fields: { offset: BLOCK, length: BLOCK } });
    await device.read(BLOCK, new Uint8Array(BLOCK));
    await expect(attempt(BLOCK)).rejects.toMatchObject({ errno: 'ENOSPC' });
    await attempt(BLOCK);
    stop();
    const stopRandom = device.fail({ operations: ['read'], probability: 0.5 });
    const outcomes = await Promise.allSettled(Array.from({ length: 200 }, () => device.read(0, new Uint8Array(BLOCK))));
    const failed = outcomes.filter((outcome) => outcome.status === 'rejected').length;
    expect(failed).toBeGreaterThan(60);
    expect(failed).toBeLessThan(140);
    stopRandom();
    await device.read(0, new Uint8Array(BLOCK));
  });

  it('replays the same faults from the same seed', async () => {
    const run = async (): Promise<[string, Buffer]> => {
      const device = faulty(42);
      device.fail({ operations: ['write'], probability: 0.3 });
      let story = '';
      for (let i = 0; i < 60; i++) {
        story += await device.write((i % 50) * BLOCK, filled(4 * BLOCK, i + 1)).then(
          () => 'w',
          () => 'E',
        );
        if (i % 20 === 19) device.crash();
      }
      return [story, await contentOf(device)];
    };
    const [first, second] = [await run(), await run()];
    expect(first[0]).toMatch(/E/);
    expect(second[0]).toBe(first[0]);
    expect(Buffer.compare(first[1], second[1])).toBe(0);
  });

  it('keeps what was flushed and only some of the rest at a crash', async () => {
    const kept = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const device = faulty(seed);
      await device.write(0, filled(BLOCK, 1));
      await device.flush();
      for (let i = 1; i <= 10; i++) await device.write(i * BLOCK, filled(BLOCK, 1));
      expect(device.unflushed).toBe(10);
      device.crash();
      expect(device.unflushed).toBe(0);
      const content = await contentOf(device);
      expect(content[0]).toBe(1);
      kept.add(Array.from({ length: 10 }, (_, i) => content[(i + 1) * BLOCK]).reduce((a, b) => a + b, 0));
    }
    expect(kept.size).toBeGreaterThan(4); // a different number of survivors from seed to seed
  });

  it('may lose what a failed flush covered, though a second flush succeeds', async () => {
    let lost = 0;
    for (let seed = 0; seed < 40; seed++) {
      const device = faulty(seed);
      await device.write(0, filled(BLOCK, 1));
      device.fail({ operations: ['flush'], times: 1 });
      await expect(device.flush()).rejects.toMatchObject({ code: 'DEVICE_FLUSH', errno: 'EIO' });
      await device.flush();
      expect((await contentOf(device))[0]).toBe(1); // still in the cache
      device.crash();
      if ((await contentOf(device))[0] === 0) lost++;
    }
    expect(lost).toBeGreaterThan(5);
    expect(lost).toBeLessThan(35);
  });

  it('leaves any part of a failed write, and the same part for good once flushed', async () => {
    const shapes = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const device = faulty(seed);
      device.fail({ operations: ['write'], times: 1 });
      await expect(device.write(0, filled(4 * BLOCK, 1))).rejects.toMatchObject({ code: 'DEVICE_WRITE' });
      const before = await contentOf(device);
      await device.flush();
      device.crash();
      expect(Buffer.compare(await contentOf(device), before)).toBe(0);
      shapes.add([0, 1, 2, 3].map((i) => before[i * BLOCK]).join(''));
    }
    expect(shapes).toContain('0000');
    expect(shapes).toContain('1111');
    expect(shapes.size).toBeGreaterThan(4);
  });

  it('takes its time on the clock it was given; a crash meanwhile fails what is in flight', async () => {
    const clock = new ManualClock();
    const device = faulty(3, { clock, latency: (operation) => (operation === 'write' ? 10 : 0) });
    let done = false;
    const first = device.write(0, filled(BLOCK, 1)).then(() => (done = true));
    await clock.advance(9);
    expect(done).toBe(false);
    await clock.advance(1);
    await first;
    const inFlight = device.write(BLOCK, filled(BLOCK, 2));
    const flushed = device.flush(); // covers the first write alone
    await flushed;
    expect(device.unflushed).toBe(1);
    device.crash();
    const failed = expect(inFlight).rejects.toMatchObject({ code: 'DEVICE_CRASHED' });
    await clock.advance(10);
    await failed;
    const content = await contentOf(device);
    expect(content[0]).toBe(1);
    expect([0, 2]).toContain(content[BLOCK]);
  });
});
