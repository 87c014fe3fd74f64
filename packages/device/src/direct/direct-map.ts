/**
 * A worker's private cache of mapping facts of one file: which byte ranges lie where on the device. Only *positive*
 * facts are kept (mapped, written, unshared): they stay true until the gate's epoch changes, when the cache is emptied.
 * Holes, unwritten and shared extents are never cached: the owner is asked.
 *
 * Sorted parallel Float64Arrays, one-entry hint, nothing allocated per lookup.
 */
export class DirectMap {
  epoch = -1;
  count = 0;
  #from = new Float64Array(64);
  #to = new Float64Array(64);
  #device = new Float64Array(64);
  #hint = 0;

  /** Forget everything; facts added from now on belong to `epoch`. */
  reset(epoch: number): void {
    this.epoch = epoch;
    this.count = 0;
    this.#hint = 0;
  }

  /** Device byte of `offset`, or -1; `available(offset)` then says how many bytes are contiguous from there. */
  find(offset: number): number {
    const i = this.#index(offset);
    return i < 0 ? -1 : this.#device[i] + (offset - this.#from[i]);
  }

  /** Contiguous mapped bytes from `offset`, 0 when it is not mapped. */
  available(offset: number): number {
    const i = this.#index(offset);
    return i < 0 ? 0 : this.#to[i] - offset;
  }

  /** Add a fact; overlapping older facts are replaced, adjacent ones joined. All arguments in bytes. */
  add(offset: number, length: number, device: number): void {
    if (length <= 0) return;
    let from = offset;
    let to = offset + length;
    let dev = device;
    let lo = this.#lower(from);
    if (lo > 0 && this.#to[lo - 1] >= from) lo--;
    let hi = lo;
    while (hi < this.count && this.#from[hi] <= to) hi++;
    // Runs lo..hi-1 touch or overlap the new fact: keep what they say outside it, join where physically adjacent.
    const parts: number[] = [];
    for (let i = lo; i < hi; i++) {
      const f = this.#from[i],
        t = this.#to[i],
        d = this.#device[i];
      if (d - f === dev - from) {
        const start = Math.min(f, from);
        dev -= from - start;
        from = start;
        to = Math.max(t, to);
      }
    }
    for (let i = lo; i < hi; i++) {
      const f = this.#from[i],
        t = this.#to[i],
        d = this.#device[i];
      if (f < from) parts.push(f, Math.min(t, from), d);
    }
    parts.push(from, to, dev);
    for (let i = lo; i < hi; i++) {
      const f = this.#from[i],
        t = this.#to[i],
        d = this.#device[i];
      if (t > to) {
        const s = Math.max(f, to);
        parts.push(s, t, d + (s - f));
      }
    }
    this.#splice(lo, hi, parts);
  }

  #index(offset: number): number {
    const h = this.#hint;
    if (h < this.count && offset >= this.#from[h] && offset < this.#to[h]) return h;
    const i = this.#lower(offset + 1) - 1;
    if (i < 0 || offset >= this.#to[i]) return -1;
    this.#hint = i;
    return i;
  }

  /** First index whose `from` is >= value. */
  #lower(value: number): number {
    let lo = 0,
      hi = this.count;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.#from[mid] < value) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  #splice(lo: number, hi: number, parts: number[]): void {
    const n = parts.length / 3;
    const count = this.count - (hi - lo) + n;
    if (count > this.#from.length) {
      const size = Math.max(count, this.#from.length * 2);
      const grow = (a: Float64Array) => {
        const b = new Float64Array(size);
        b.set(a);
        return b;
      };
      this.#from = grow(this.#from);
      this.#to = grow(this.#to);
      this.#device = grow(this.#device);
    }
    for (const a of [this.#from, this.#to, this.#device]) a.copyWithin(lo + n, hi, this.count);
    for (let k = 0; k < n; k++) {
      this.#from[lo + k] = parts[3 * k];
      this.#to[lo + k] = parts[3 * k + 1];
      this.#device[lo + k] = parts[3 * k + 2];
    }
    this.count = count;
    this.#hint = lo;
  }
}
