/** Counts requests, so that a device can close once none is in flight. */
export class InFlight {
  #count = 0;
  #idle: (() => void)[] = [];

  /** Run a request; it counts until it settles. */
  async run<T>(request: () => Promise<T>): Promise<T> {
    this.#count++;
    try {
      return await request();
    } finally {
      if (--this.#count === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  /** Resolves when no request is in flight. The caller sees to it that no new ones begin. */
  async settled(): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}
