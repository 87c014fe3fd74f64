import { closeSync, constants, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AlignedPool, adoptAligned, alignedMemory, isAligned } from '../src/aligned-pool.js';
import { Random } from '../src/random.js';

describe('AlignedPool', () => {
  it('hands out page-aligned views of the exact length', () => {
    const pool = new AlignedPool();
    for (const length of [1, 511, 512, 4096, 4097, 65536, 1 << 20, (3 << 20) + 5]) {
      const view = pool.acquire(length);
      expect(view.length).toBe(length);
      expect(view.byteOffset % 4096).toBe(0);
      expect(isAligned(view, 1)).toBe(true);
    }
    expect(pool.inUse).toBe(8);
  });

  it('never lends the same bytes twice, through random use and growth', () => {
    for (const shared of [false, true]) {
      const random = new Random(11);
      const pool = new AlignedPool({ shared, arenaBytes: 64 << 10 });
      const lent: { view: Uint8Array; tag: number }[] = [];
      for (let step = 0; step < 3000; step++) {
        if (lent.length > 0 && random.chance(0.48)) {
          const [{ view, tag }] = lent.splice(random.int(lent.length), 1);
          expect(view[0]).toBe(tag);
          expect(view[view.length - 1]).toBe(tag);
          pool.release(view);
        } else {
          const view = pool.acquire(1 + random.int(40_000));
          const tag = 1 + random.int(255);
          view.fill(tag);
          lent.push({ view, tag });
        }
      }
      for (const { view, tag } of lent) expect(view.every((byte) => byte === tag)).toBe(true);
      expect(pool.inUse).toBe(lent.length);
    }
  });

  it('reuses what was released instead of growing', () => {
    const pool = new AlignedPool();
    pool.release(pool.acquire(100_000));
    const capacity = pool.capacity;
    for (let i = 0; i < 1000; i++) pool.release(pool.acquire(100_000 + i));
    expect(pool.capacity).toBe(capacity);
  });

  it('refuses a double release, a foreign view and impossible lengths', () => {
    const pool = new AlignedPool();
    const view = pool.acquire(4096);
    pool.release(view);
    expect(() => pool.release(view)).toThrow(expect.objectContaining({ code: 'DEVICE_POOL_FOREIGN' }));
    expect(() => pool.release(pool.acquire(4096).subarray(0, 512))).toThrow(expect.objectContaining({ code: 'DEVICE_POOL_FOREIGN' }));
    for (const length of [0, -1, Number.NaN, 2 ** 31])
      expect(() => pool.acquire(length)).toThrow(expect.objectContaining({ code: 'DEVICE_POOL_LENGTH' }));
  });

  it('is taken by O_DIRECT as it is', () => {
    const path = join(tmpdir(), `lunfs-pool-${process.pid}`);
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT);
    try {
      for (const shared of [false, true]) {
        const pool = new AlignedPool({ shared });
        for (const length of [512, 4096, 1 << 20]) expect(writeSync(fd, pool.acquire(length), 0, length, 0)).toBe(length);
      }
    } finally {
      closeSync(fd);
      rmSync(path);
    }
  });
});

describe('isAligned', () => {
  it('wants known memory, start and length', () => {
    const memory = new Uint8Array(alignedMemory(65536));
    expect(isAligned(memory)).toBe(true);
    expect(isAligned(memory.subarray(512, 1024), 512)).toBe(true);
    expect(isAligned(memory.subarray(512, 1024))).toBe(false);
    expect(isAligned(memory.subarray(0, 100), 512)).toBe(false);
    expect(isAligned(new Uint8Array(4096))).toBe(false);
  });

  it('knows memory of another thread once it is adopted', () => {
    const arrived = structuredClone(alignedMemory(65536, true)); // what a message does
    expect(isAligned(new Uint8Array(arrived))).toBe(false);
    adoptAligned(arrived);
    expect(isAligned(new Uint8Array(arrived))).toBe(true);
  });
});
