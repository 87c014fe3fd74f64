/** A set of nodes: one bit per node number, 32 bytes on the wire, bit n = byte n >> 3, mask 1 << (n & 7) (cluster-protocols.md 1.4). */

/** Node numbers are 0 to 254; 255 means no node. */
export const MAX_NODES = 255;
export const NO_NODE = 255;
export const NODE_MAP_BYTES = 32;

export class NodeMap implements Iterable<number> {
  readonly #bits: Uint8Array;

  /** `nodes` in any order, each 0 to 254. */
  constructor(nodes: Iterable<number> = []) {
    this.#bits = new Uint8Array(NODE_MAP_BYTES);
    for (const node of nodes) this.add(node);
  }

  /** A map as it lies on the wire, 32 bytes; bit 255 has no meaning and is dropped. */
  static fromBytes(bytes: Uint8Array): NodeMap {
    const map = new NodeMap();
    map.#bits.set(bytes.subarray(0, NODE_MAP_BYTES));
    map.#bits[NODE_MAP_BYTES - 1] &= 0x7f;
    return map;
  }

  /** A copy of the 32 bytes. */
  toBytes(): Uint8Array {
    return this.#bits.slice();
  }

  has(node: number): boolean {
    return node >= 0 && node < MAX_NODES && (this.#bits[node >> 3] & (1 << (node & 7))) !== 0;
  }

  /** Throws RangeError if it is no node number. */
  add(node: number): void {
    if (!Number.isInteger(node) || node < 0 || node >= MAX_NODES) throw new RangeError(`${node} is no node number (0 to ${MAX_NODES - 1})`);
    this.#bits[node >> 3] |= 1 << (node & 7);
  }

  delete(node: number): void {
    if (node >= 0 && node < MAX_NODES) this.#bits[node >> 3] &= ~(1 << (node & 7));
  }

  clear(): void {
    this.#bits.fill(0);
  }

  get size(): number {
    let count = 0;
    for (const _ of this) count++;
    return count;
  }

  /** The smallest number of the set. */
  get lowest(): number | undefined {
    for (const node of this) return node;
    return undefined;
  }

  equals(other: NodeMap): boolean {
    return this.#bits.every((byte, i) => byte === other.#bits[i]);
  }

  copy(): NodeMap {
    return NodeMap.fromBytes(this.#bits);
  }

  /** Ascending. */
  *[Symbol.iterator](): IterableIterator<number> {
    for (let byte = 0; byte < NODE_MAP_BYTES; byte++) {
      if (this.#bits[byte] === 0) continue;
      for (let bit = 0; bit < 8; bit++) if (this.#bits[byte] & (1 << bit)) yield byte * 8 + bit;
    }
  }
}
