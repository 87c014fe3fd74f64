import { describe, expect, it } from 'vitest';
import { DirectMap } from '../../src/direct/direct-map.js';
import { Random } from '../../src/random.js';

/** The same facts byte by byte: device byte of each file byte, or -1. */
class Model {
  readonly device = new Int32Array(600).fill(-1);
  add(offset: number, length: number, device: number): void {
    for (let i = 0; i < length; i++) this.device[offset + i] = device + i;
  }
  available(offset: number): number {
    let n = 0;
    while (this.device[offset + n] >= 0 && (n === 0 || this.device[offset + n] === this.device[offset + n - 1] + 1)) n++;
    return n;
  }
  get runs(): number {
    let runs = 0;
    for (let i = 0; i < 600; i++)
      if (this.device[i] >= 0 && (i === 0 || this.device[i - 1] < 0 || this.device[i] !== this.device[i - 1] + 1)) runs++;
    return runs;
  }
}

describe('DirectMap', () => {
  it('knows nothing after reset', () => {
    const map = new DirectMap();
    map.add(0, 10, 100);
    map.reset(7);
    expect([map.epoch, map.count, map.find(0), map.available(0)]).toEqual([7, 0, -1, 0]);
  });

  it('joins what is adjacent in file and on the device, and only that', () => {
    const map = new DirectMap();
    map.add(0, 10, 100);
    map.add(10, 10, 110);
    map.add(20, 10, 500);
    map.add(40, 10, 520);
    expect(map.count).toBe(3);
    expect([map.available(5), map.find(15), map.available(20), map.find(30), map.find(49)]).toEqual([15, 115, 10, -1, 529]);
    map.add(30, 10, 510); // the gap: joins both neighbours
    expect([map.count, map.available(20)]).toEqual([2, 30]);
    map.add(60, 0, 1);
    expect(map.find(60)).toBe(-1);
  });

  it('lets a newer fact replace the overlapped part of older ones', () => {
    const map = new DirectMap();
    map.add(0, 30, 100);
    map.add(10, 10, 900);
    expect([map.find(9), map.find(10), map.find(19), map.find(20), map.count]).toEqual([109, 900, 909, 120, 3]);
    map.add(0, 30, 100); // and back
    expect([map.find(15), map.count]).toEqual([115, 1]);
  });

  it('agrees with a map of single bytes, whatever is added', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      const map = new DirectMap();
      const model = new Model();
      for (let step = 0; step < 60; step++) {
        const offset = random.int(500);
        const length = 1 + random.int(random.chance(0.2) ? 99 : 12);
        // Often identical to an earlier layout, so that facts join; sometimes elsewhere, so that they conflict.
        const device = offset + random.pick([0, 0, 0, 10_000, 10_001]) * 10;
        map.add(offset, length, device);
        model.add(offset, length, device);
        for (let i = 0; i < 20; i++) {
          const at = random.int(600);
          if (map.find(at) !== model.device[at] || map.available(at) !== model.available(at)) {
            expect.fail(
              `seed ${seed} step ${step} at ${at}: ${map.find(at)}+${map.available(at)}, model ${model.device[at]}+${model.available(at)}`,
            );
          }
        }
        expect(map.count, `seed ${seed} step ${step}: joined wherever possible`).toBe(model.runs);
      }
    }
  });

  it('holds many thousand runs, added in any order', () => {
    const map = new DirectMap();
    const order = new Random(9).shuffle(Array.from({ length: 5000 }, (_, i) => i));
    for (const i of order) map.add(i * 8192, 4096, i * 4096);
    expect(map.count).toBe(5000);
    for (const i of order)
      expect([map.find(i * 8192 + 5), map.available(i * 8192 + 5), map.find(i * 8192 + 4096)]).toEqual([i * 4096 + 5, 4091, -1]);
  });
});
