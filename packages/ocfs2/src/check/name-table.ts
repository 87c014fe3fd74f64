/**
 * The names of one directory, a few numbers each: hash, and where the entry lies. Finds names that are there twice, and
 * matches an index against them, without keeping the names. Two names with the same two hashes of 32 bits are taken for the
 * same one only after their bytes have been looked at.
 */

const FREE = 0;
/** The name was found in the index. */
const INDEXED = 1;
/** The row is the other hash of a name with bytes above 0x7f (Linux hashed them with signed or unsigned chars, by architecture). */
const ALIAS = 2;

export class NameTable {
  /** Rows: names, and second hashes of some. */
  length = 0;
  /** Names. */
  names = 0;
  #major: Uint32Array;
  #minor: Uint32Array;
  /** Number of the directory block, counted from the first. */
  #block: Uint32Array;
  /** Byte of the entry in its block; of an alias: the row of the name. */
  #at: Uint32Array;
  #flags: Uint8Array;
  /** Open addressing by hash: row + 1. */
  #slots: Uint32Array;

  /** `expected`: rows to make room for at once; it grows as needed. */
  constructor(expected: number) {
    const rows = 2 ** Math.ceil(Math.log2(Math.max(16, expected)));
    [this.#major, this.#minor, this.#block, this.#at] = [0, 1, 2, 3].map(() => new Uint32Array(rows));
    this.#flags = new Uint8Array(rows);
    this.#slots = new Uint32Array(4 * rows);
  }

  /** Add a name; the row of an earlier one with the same hashes, or -1. */
  add(major: number, minor: number, block: number, at: number): number {
    const twin = this.#next(major, minor, this.#home(major, minor), (row) => (this.#flags[row] & ALIAS) === 0);
    this.#push(major, minor, block, at, FREE);
    this.names++;
    return twin;
  }

  /** The name added last has another hash, too. */
  addAlias(major: number, minor: number): void {
    const row = this.length - 1;
    this.#push(major, minor, this.#block[row], row, ALIAS);
  }

  /** Match an index entry with a name in this block that has not been matched yet. False: there is none. */
  match(major: number, minor: number, block: number): boolean {
    const row = this.#next(major, minor, this.#home(major, minor), (r) => this.#block[r] === block && (this.#flags[this.#primary(r)] & INDEXED) === 0);
    if (row < 0) return false;
    this.#flags[this.#primary(row)] |= INDEXED;
    return true;
  }

  /** Where the names lie that nothing matched. */
  *unmatched(): Generator<{ block: number; at: number }> {
    for (let row = 0; row < this.length; row++) if (this.#flags[row] === FREE) yield this.place(row);
  }

  place(row: number): { block: number; at: number } {
    return { block: this.#block[row], at: this.#at[row] };
  }

  #primary(row: number): number {
    return this.#flags[row] & ALIAS ? this.#at[row] : row;
  }

  #home(major: number, minor: number): number {
    return (Math.imul(major ^ (minor >>> 7), 0x9e3779b1) >>> 0) & (this.#slots.length - 1);
  }

  #next(major: number, minor: number, from: number, wanted: (row: number) => boolean): number {
    const mask = this.#slots.length - 1;
    for (let slot = from; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const row = this.#slots[slot] - 1;
      if (this.#major[row] === major && this.#minor[row] === minor && wanted(row)) return row;
    }
    return -1;
  }

  #push(major: number, minor: number, block: number, at: number, flags: number): void {
    if (this.length === this.#major.length) this.#grow();
    const row = this.length++;
    this.#major[row] = major;
    this.#minor[row] = minor;
    this.#block[row] = block;
    this.#at[row] = at;
    this.#flags[row] = flags;
    this.#enter(row);
  }

  #enter(row: number): void {
    const mask = this.#slots.length - 1;
    let slot = this.#home(this.#major[row], this.#minor[row]);
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = row + 1;
  }

  #grow(): void {
    const larger = (old: Uint32Array): Uint32Array<ArrayBuffer> => {
      const more = new Uint32Array(2 * old.length);
      more.set(old);
      return more;
    };
    this.#major = larger(this.#major);
    this.#minor = larger(this.#minor);
    this.#block = larger(this.#block);
    this.#at = larger(this.#at);
    const flags = new Uint8Array(2 * this.#flags.length);
    flags.set(this.#flags);
    this.#flags = flags;
    this.#slots = new Uint32Array(2 * this.#slots.length);
    for (let row = 0; row < this.length; row++) this.#enter(row);
  }
}
