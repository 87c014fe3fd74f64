/**
 * Requests that wait for their status, by number. Numbers are the lowest unused ones, as the kernel gives them
 * (cluster-protocols.md 4.3), so they are used again at once and say nothing about order.
 */
export class Outstanding<T> {
  readonly #slots: (T | undefined)[] = [];
  /** No slot before it is free. */
  #lowest = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Keeps a value under the lowest unused number, which it returns. */
  add(value: T): number {
    while (this.#slots[this.#lowest] !== undefined) this.#lowest++;
    const number = this.#lowest++;
    this.#slots[number] = value;
    this.#size++;
    return number;
  }

  get(number: number): T | undefined {
    return this.#slots[number];
  }

  /** Frees a number that is in use. */
  delete(number: number): void {
    this.#slots[number] = undefined;
    this.#lowest = Math.min(this.#lowest, number);
    this.#size--;
  }

  /** Takes out all, in the order of their numbers. */
  drain(): T[] {
    const all = this.#slots.filter((value) => value !== undefined);
    this.#slots.length = 0;
    this.#lowest = 0;
    this.#size = 0;
    return all;
  }
}
