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

  start(i: number): number {
    return this.#data[2 * i];
  }
  clusters(i: number): number {
    return this.#data[2 * i + 1];
  }
}
