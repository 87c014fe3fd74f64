/** Runs of clusters, two numbers each, in as little memory as that takes. */

export class RunList {
  #data = new Uint32Array(32);
  length = 0;

  push(start: number, clusters: number): void {
    if (2 * this.length === this.#data.length) {
      const more = new Uint32Array(2 * this.#data.length);
      more.set(this.#data);
      this.#data = more;
    }
    this.#data[2 * this.length] = start;
    this.#data[2 * this.length + 1] = clusters;
    this.length++;
  }

  /** All runs as numbers, for another thread's list. */
  numbers(): Uint32Array {
    return this.#data.slice(0, 2 * this.length);
  }
  append(numbers: Uint32Array): void {
    for (let i = 0; i < numbers.length; i += 2) this.push(numbers[i], numbers[i + 1]);
  }

  start(i: number): number {
    return this.#data[2 * i];
  }
  clusters(i: number): number {
    return this.#data[2 * i + 1];
  }
}
