/**
 * Users of locks as a file system is one (Linux 6.1 fs/ocfs2/dlmglue.c): they cache what is granted, give way to BASTs when nobody works under
 * the lock, and cancel a conversion that is in the way. With them go the checks that must hold at every moment: who holds what, and what
 * value blocks say.
 */
import type { ClientLock, Level } from '../../../src/dlm/index.js';
import { type Bench, type BenchNode, Dice } from './bench.js';

const [NL, PR, EX] = [0, 3, 5] as const;

/** What all nodes together must keep to. */
export class Truth {
  /** By name: level of each node that may work under the lock. */
  readonly holders = new Map<string, Map<number, Level>>();
  /** The last value put; undefined when it must be invalid. */
  readonly #value = new Map<string, string | undefined>();
  readonly #writer = new Map<string, number>();
  grants = 0;
  values = 0;

  granted(node: number, name: string, level: Level, lvb: Uint8Array, fresh: boolean): void {
    this.grants++;
    const held = this.holders.get(name) ?? new Map<number, Level>();
    this.holders.set(name, held);
    for (const [other, theirs] of held) {
      if (other !== node && (level === EX ? theirs !== NL : level === PR && theirs === EX)) throw new Error(`${name}: node ${node} is granted ${level} while node ${other} holds ${theirs}`);
    }
    held.set(node, level);
    if (fresh && level > NL) {
      const text = Buffer.from(lvb).toString('latin1').replace(/\0+$/, '');
      if (text !== '') {
        this.values++;
        if (text !== this.#value.get(name)) throw new Error(`${name}: node ${node} reads the value ${text}, the last is ${this.#value.get(name)}`);
      }
    }
    if (level === EX) this.#writer.set(name, node);
  }

  put(node: number, name: string, value: string): void {
    this.#value.set(name, value);
    if (this.#writer.get(name) === node) this.#writer.delete(name);
  }

  /** From now on the node does nothing under the lock that needs more than `level`. */
  lowered(node: number, name: string, level: Level): void {
    const held = this.holders.get(name);
    if (level === NL) held?.delete(node);
    else held?.set(node, level);
  }

  died(node: number): void {
    for (const [name, held] of this.holders) {
      held.delete(node);
      // It may have changed what the value describes.
      if (this.#writer.get(name) === node) this.#value.set(name, undefined);
    }
  }
}

/** One lock of one node. */
class User {
  lock: ClientLock | undefined;
  level: Level = NL;
  busy: 'no' | 'lock' | 'up' | 'down' | 'cancel' = 'no';
  working = 0;
  blocking: Level = NL;
  wanted: Level = NL;

  constructor(readonly host: Host, readonly name: string) {}

  want(level: Level, trylock: boolean): void {
    if (this.busy !== 'no' || this.blocking !== NL) return;
    if (this.lock !== undefined && this.level >= level) return this.#work();
    this.wanted = level;
    this.busy = this.lock === undefined ? 'lock' : 'up';
    this.host.pending++;
    if (this.lock === undefined) {
      // It may be refused before the call returns.
      const lock = this.host.node.domain.lock(this.name, level, {
        ast: (result, lvb) => this.#ast(result, lvb),
        bast: (blocked) => this.#bast(blocked),
        failed: (error) => this.host.fail(error),
      }, { trylock, valueBlock: true });
      if ((this.busy as string) === 'lock' || this.level > NL) this.lock = lock;
    } else this.lock.convert(level, { trylock });
  }

  #ast(result: 'granted' | 'again' | 'cancelled', lvb: Uint8Array): void {
    if (this.busy === 'no') throw new Error(`${this.host.node.name} ${this.name}: an AST nobody asked for`);
    const was = this.busy;
    this.busy = 'no';
    this.host.pending--;
    if (was === 'down') {
      if (result !== 'granted') throw new Error(`${this.name}: a conversion down ends with ${result}`);
    } else if (result === 'granted') {
      this.level = this.wanted;
      this.host.truth.granted(this.host.node.number, this.name, this.level, lvb, true);
      this.#work();
    } else if (was === 'lock') this.lock = undefined;
    this.#giveWay();
  }

  #work(): void {
    this.working++;
    this.host.after(this.host.dice.below(40), () => {
      this.working--;
      this.#giveWay();
    });
  }

  #bast(level: Level): void {
    this.blocking = level > this.blocking ? level : this.blocking;
    this.#giveWay();
  }

  #giveWay(): void {
    if (this.blocking === NL) return;
    if (this.busy === 'lock' || this.busy === 'up') {
      // A conversion that waits may be what everybody waits for.
      if (this.level === NL) return;
      this.busy = 'cancel';
      this.lock?.cancel();
      return;
    }
    if (this.busy !== 'no' || this.working > 0) return;
    const level = this.blocking === EX ? NL : PR;
    this.blocking = NL;
    if (this.level > level) this.#down(level);
  }

  #down(level: Level): void {
    const { truth, node } = this.host;
    const lvb = this.level === EX ? this.host.value(this.name) : undefined;
    this.level = level;
    truth.lowered(node.number, this.name, level);
    this.busy = 'down';
    this.host.pending++;
    this.lock?.convert(level, lvb && { lvb });
  }

  /** Ends the lock, if nothing is under way. */
  drop(): boolean {
    if (this.lock === undefined) return true;
    if (this.busy !== 'no' || this.working > 0) return false;
    const lvb = this.level === EX ? this.host.value(this.name) : undefined;
    this.host.truth.lowered(this.host.node.number, this.name, NL);
    this.lock.unlock(lvb);
    this.lock = undefined;
    this.level = NL;
    this.blocking = NL;
    return true;
  }
}

/** All users of one node. */
export class Host {
  readonly users = new Map<string, User>();
  readonly dice: Dice;
  pending = 0;
  #values = 0;

  constructor(readonly bench: Bench, readonly node: BenchNode, readonly truth: Truth) {
    this.dice = new Dice(bench.options.seed * 31 + node.life);
  }

  after(ms: number, fn: () => void): void {
    this.bench.time.after(ms, () => this.node.alive && fn());
  }

  fail(error: Error): void {
    throw error;
  }

  value(name: string): Uint8Array {
    const text = `${this.node.number}.${this.node.life}.${++this.#values}`;
    this.truth.put(this.node.number, name, text);
    const lvb = new Uint8Array(64);
    lvb.set(Buffer.from(text));
    return lvb;
  }

  user(name: string): User {
    let user = this.users.get(name);
    if (user === undefined) this.users.set(name, (user = new User(this, name)));
    return user;
  }

  /** Something at random, with one of the names. */
  act(names: readonly string[]): void {
    const user = this.user(this.dice.pick(names));
    const what = this.dice.below(10);
    if (what === 0) user.drop();
    else user.want(what < 6 ? PR : EX, this.dice.chance(0.15));
  }

  /** Ends all locks; true when none is left. */
  dropAll(): boolean {
    let all = true;
    for (const user of this.users.values()) if (!user.drop()) all = false;
    return all;
  }
}
