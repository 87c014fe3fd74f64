/**
 * Seeded randomness (docs/design.md, rule 5): test devices, crash enumeration and the simulator roll all their dice
 * here, so that one printed seed replays a run. xoshiro128** (Blackman and Vigna, 2018), its state filled by
 * splitmix32. Not for secrets.
 */
export class Random {
  /** What to print so that a run can be replayed. */
  readonly seed: number;
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** `seed`: any safe integer; equal seeds give equal sequences on every machine. */
  constructor(seed: number) {
    this.seed = seed;
    let x = ((seed % 0x1_0000_0000) ^ Math.floor(seed / 0x1_0000_0000)) | 0;
    const next = (): number => {
      x = (x + 0x9e3779b9) | 0;
      let z = x ^ (x >>> 16);
      z = Math.imul(z, 0x21f0aaad);
      z ^= z >>> 15;
      z = Math.imul(z, 0x735a2d97);
      return (z ^ (z >>> 15)) | 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next() || 1; // the all-zero state would stay zero for ever
  }

  /** 0 .. 2^32-1. */
  u32(): number {
    const product = Math.imul(this.#b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** 0 <= x < 1, 53 bits. */
  float(): number {
    return ((this.u32() >>> 5) * 0x400_0000 + (this.u32() >>> 6)) / 0x20_0000_0000_0000;
  }

  /** An integer 0 .. below-1; `below` is 1 .. 2^53. */
  int(below: number): number {
    return Math.floor(this.float() * below);
  }

  /** True with the given probability (0 never, 1 always). */
  chance(probability: number): boolean {
    return this.float() < probability;
  }

  /** One of the items, which must not be empty. */
  pick<T>(items: readonly T[]): T {
    return items[this.int(items.length)];
  }

  /** Shuffles in place (Fisher-Yates) and returns the same array. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      const item = items[i];
      items[i] = items[j];
      items[j] = item;
    }
    return items;
  }

  /** Fill with random bytes. */
  fill(into: Uint8Array): void {
    for (let i = 0; i < into.length; i += 4) {
      const word = this.u32();
      for (let k = 0; k < 4 && i + k < into.length; k++) into[i + k] = word >>> (8 * k);
    }
  }

  /** An independent generator derived from this one, so that a subsystem's dice don't disturb another's. */
  fork(): Random {
    return new Random(this.u32() * 0x20_0000 + (this.u32() >>> 11));
  }
}
