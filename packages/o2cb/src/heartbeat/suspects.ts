/** Who is suspected to be dead, as whoever knows it tells the others (`Suspicion`): the heartbeat, and at the end of a link what it was told. */
import { NodeMap } from '../node-map.js';
import type { Suspicion } from '../ports.js';

export class Suspects implements Suspicion {
  #suspects: NodeMap;
  readonly #listeners = new Set<() => void>();

  constructor(nodes: Iterable<number> = []) {
    this.#suspects = new NodeMap(nodes);
  }

  get suspects(): NodeMap {
    return this.#suspects;
  }

  onSuspicion(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** These nodes are suspected now, and no others. */
  suspect(nodes: NodeMap): void {
    if (nodes.equals(this.#suspects)) return;
    this.#suspects = nodes;
    for (const listener of [...this.#listeners]) listener();
  }
}
