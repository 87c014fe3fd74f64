// What a demonstration does, step by step: told as it happens, summed up at the end, and ended at any moment.
//
// The one rule: whatever a step begins either ends with `signal` or is found again by `atEnd`. So after a Ctrl-C nothing has to be known of
// where it struck: what runs is aborted, the flow ends with an error, and the clean-up is the one of every other end.
import { seconds } from './run.mjs';

/** Thrown out of a flow that was stopped. */
export class Stopped extends Error {}

export class Steps {
  #name;
  #stopping = new AbortController();
  /** @type {[what: string, result: string][]} */
  #done = [];
  /** @type {(() => unknown)[]} */
  #undo = [];
  /** @type {NodeJS.Signals | undefined} */
  #stoppedBy;

  /** @param {string} name what lines begin with */
  constructor(name) {
    this.#name = name;
  }

  /** Aborted by Ctrl-C and SIGTERM. */
  get signal() {
    return this.#stopping.signal;
  }

  /**
   * Runs a step and tells its time, and what it returns, if that is a text.
   * @param {string} what
   * @param {() => unknown} work
   */
  async step(what, work) {
    this.#alive();
    process.stdout.write(`${this.#name}: ${what} … `);
    const started = performance.now();
    try {
      const said = await work();
      this.#alive();
      const time = seconds(performance.now() - started);
      const words = typeof said === 'string' && said !== '' ? `${time}; ${said}` : time;
      console.log(words);
      this.#done.push([what, words]);
    } catch (error) {
      console.log(this.signal.aborted ? 'stopped' : 'failed');
      throw error;
    }
  }

  /** @param {string} what @param {string} why */
  skip(what, why) {
    this.#alive();
    console.log(`${this.#name}: ${what}: left out, ${why}`);
    this.#done.push([what, `left out: ${why}`]);
  }

  /** What is to be done at the end, however it comes; the last named is done first. @param {() => unknown} undo */
  atEnd(undo) {
    this.#undo.push(undo);
  }

  /** @param {number} ms */
  pause(ms) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      this.signal.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(new Stopped());
      }, { once: true });
    });
  }

  /** @param {number} ms since the first step */
  summary(ms) {
    const width = Math.max(...this.#done.map(([what]) => what.length));
    console.log(`\nWhat ran, in ${seconds(ms)}:`);
    for (const [what, result] of this.#done) console.log(`  ${what.padEnd(width)}  ${result}`);
  }

  /**
   * Runs a flow and cleans up after it. Sets the exit code: 0, 1, or 128 and the signal.
   * @param {() => Promise<void>} flow
   */
  async run(flow) {
    for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.on(signal, () => this.#stop(signal));
    try {
      await flow();
    } catch (error) {
      if (!this.signal.aborted) {
        console.error(`${this.#name}: ${/** @type {Error} */ (error).message}`);
        process.exitCode = 1;
      }
    }
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        await undo();
      } catch (error) {
        console.error(`${this.#name}: cleaning up: ${/** @type {Error} */ (error).message}`);
        process.exitCode = 1;
      }
    }
    if (this.#stoppedBy !== undefined) process.exit(this.#stoppedBy === 'SIGINT' ? 130 : 143);
  }

  /** @param {NodeJS.Signals} signal */
  #stop(signal) {
    if (this.signal.aborted) return;
    this.#stoppedBy = signal;
    console.log(`\n${this.#name}: ${signal}, cleaning up`);
    this.#stopping.abort();
  }

  #alive() {
    if (this.signal.aborted) throw new Stopped();
  }
}
