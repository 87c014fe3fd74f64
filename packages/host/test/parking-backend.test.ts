/** A backend that is parked: reads go on, writes wait in their order, and once it is parked nothing is under way that could write. */
import { type FileBackend, Gate } from '@lunfs/device';
import { expect, test } from 'vitest';
import { ParkingBackend } from '../src/parking-backend.js';

/** A backend that notes what is asked of it, and does it when `go` is called. */
class SlowBackend implements FileBackend {
  readonly size = 1 << 20;
  readonly readOnly = false;
  readonly direct = { fd: -1, alignment: 512, gate: new Gate() };
  readonly done: string[] = [];
  #waiting: (() => void)[] = [];

  go(): void {
    for (const one of this.#waiting.splice(0)) one();
  }
  async #do(what: string): Promise<void> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.done.push(what);
  }
  async map(offset: number, length: number, write: boolean): Promise<{ epoch: number; runs: { offset: number; length: number; device: number }[] }> {
    await this.#do(`map ${write}`);
    return { epoch: this.direct.gate.epoch, runs: [{ offset, length, device: 4096 }] };
  }
  async read(): Promise<void> {
    this.done.push('read');
  }
  write(offset: number): Promise<void> {
    return this.#do(`write ${offset}`);
  }
  async flush(): Promise<void> {
    this.done.push('flush');
  }
  trim(): Promise<void> {
    return this.#do('trim');
  }
  writeZeroes(): Promise<void> {
    return this.#do('zeroes');
  }
  async status(): Promise<[]> {
    return [];
  }
  async close(): Promise<void> {}
}

const turns = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

test('what was begun is waited for, mappings handed out before are recalled, and what comes waits until it is unparked', async () => {
  const slow = new SlowBackend();
  const { gate } = slow.direct;
  const backend = new ParkingBackend(slow, 'vm.raw', false);
  const first = backend.write(0, new Uint8Array(1), false);
  const mapping = backend.map(0, 4096, true, 8);
  // A worker writes by a mapping of before.
  const epoch = gate.epoch;
  expect(gate.enter(epoch, 0, true)).toBe(true);
  let parked = false;
  const parking = backend.park().then(() => {
    parked = true;
  });
  const later = [backend.write(1, new Uint8Array(1), false), backend.trim(0, 1), backend.writeZeroes(0, 1, true, false)];
  await backend.read(0, new Uint8Array(1));
  await turns();
  expect([parked, slow.done]).toEqual([false, ['read']]);
  slow.go();
  await Promise.all([first, mapping]);
  await turns();
  expect([parked, slow.done]).toEqual([false, ['read', 'write 0', 'map true']]);
  gate.leave();
  await parking;
  // The mapping that was on its way is of an epoch that is over, and there is no new one.
  expect((await mapping).epoch).not.toBe(gate.epoch);
  expect(gate.enter((await mapping).epoch, 0, true)).toBe(false);
  expect((await backend.map(0, 4096, true, 8)).runs).toEqual([]);
  slow.go();
  await turns();
  expect(slow.done).toEqual(['read', 'write 0', 'map true']);
  await backend.flush();
  backend.unpark();
  await turns();
  slow.go();
  await Promise.all(later);
  expect(slow.done).toEqual(['read', 'write 0', 'map true', 'flush', 'write 1', 'trim', 'zeroes']);
});

test('parked from the beginning; abandoned, what waits fails and is not done', async () => {
  const slow = new SlowBackend();
  const backend = new ParkingBackend(slow, 'vm.raw', true);
  const write = backend.write(0, new Uint8Array(1), false);
  await turns();
  slow.go();
  backend.abandon();
  await expect(write).rejects.toMatchObject({ code: 'DISK_PARKED', errno: 'ESHUTDOWN' });
  await expect(backend.trim(0, 1)).rejects.toMatchObject({ code: 'DISK_PARKED' });
  expect(slow.done).toEqual([]);
});
