/** A member that says anything, in any order: whatever it is, the domain goes on. */
import { describe, expect, it } from 'vitest';
import { CorruptionError } from '@lunfs/device';
import { MESSAGES, type Codec, type MessageType } from '../../src/dlm/index.js';
import { Dice } from './support/bench.js';
import { Scripted } from './support/scripted.js';

const names = ['M'.padEnd(31, '0'), 'N'.padEnd(31, '1'), '$RECOVERY'];
const types = Object.keys(MESSAGES).map(Number) as MessageType[];
const codecs = MESSAGES as unknown as Readonly<Record<number, Codec<unknown>>>;

/** A message that is well formed, and means anything. */
function anything(dice: Dice, type: MessageType, from: number): Record<string, unknown> {
  const node = () => dice.pick([0, 1, 2, 3, 4, 254, 255]);
  const cookie = () => (BigInt(dice.below(4)) << 56n) | BigInt(dice.below(5));
  const flags = () => dice.pick([0, 1, 2, 3, 4, 5, 6, 7, 0x200, 0x400, 0x2000, 0x2000_0000, 0x4000_0000, 0x6000_0100, 0xffff_ffff]);
  const mode = () => dice.pick([-1, 0, 3, 5, 5, 77]);
  const bits = flags();
  const lvb = new Uint8Array(64).fill(dice.below(3));
  return {
    node: from, name: dice.pick(names), domain: dice.pick(['D', 'D', 'E']), flags: type === 509 ? dice.below(8) : bits, cookie: type === 509 ? 0n : cookie(), mode: mode(), type: dice.below(3), blocked: dice.pick([0, 3, 5, 9]),
    master: node(), newMaster: dice.pick([from, node()]), dead: dice.pick([0, 2, 3, 4, 254, 255]), total: dice.below(4), lvb: (bits & 0x6000_0000) !== 0 || type === 509 ? lvb : undefined,
    locks: Array.from({ length: dice.below(4) }, () => ({ cookie: cookie(), list: dice.below(4), flags: dice.below(8), mode: mode(), convertMode: mode(), highestBlocked: mode(), node: node() })),
    nodes: [], regions: [], dlmMajor: 1, dlmMinor: dice.below(5), fsMajor: 1, fsMinor: 0, live: { toBytes: () => new Uint8Array(32).fill(dice.pick([0, 0x1f, 0xff])) },
  };
}

describe('a hostile member', () => {
  it.each(Array.from({ length: 40 }, (_, i) => i + 1))('seed %i', (seed) => {
    const dice = new Dice(seed);
    const it = new Scripted(1, [1, 2, 3, 4], [1, 2, 3]);
    const locks = names.slice(0, 2).map((name, i) => it.lock(String(i), name, dice.pick([0, 3, 5] as const), { valueBlock: true }));
    let refused = 0;
    let took = 0;
    for (let i = 0; i < 400; i++) {
      const what = dice.below(12);
      if (what < 7) {
        const type = dice.pick(types);
        const from = dice.pick([2, 3, 4]);
        try {
          it.receiveRaw(from, type, codecs[type].encode(anything(dice, type, from)));
          took++;
        } catch (error) {
          expect(error).toBeInstanceOf(CorruptionError);
          refused++;
        }
      } else if (what < 10) {
        if (it.open.length > 0) dice.pick(it.open).answer(dice.pick([0, 0, 1, 2, 3, 10, 11, 21, 32, 39, 40, 255, -1, -11, -12, -22, 77]));
      } else if (what === 10) it.time.run(dice.below(300));
      else {
        const lock = dice.pick(locks);
        try {
          if (dice.chance(0.5)) lock.convert(dice.pick([0, 3, 5] as const));
          else lock.cancel();
        } catch {
          // busy or gone
        }
      }
      expect(it.core.loop.stopped).toBe(false);
    }
    expect(took).toBeGreaterThan(50);
    expect(refused).toBeGreaterThan(0);
  });
});
