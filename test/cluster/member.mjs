// A member of a cluster for tests: it beats on the LUN, speaks o2net and o2dlm, and takes orders; there is no file system in it.
//
// Argument: JSON with number, nodes, settings (o2cb's), device, regionOffset (bytes), sectorSize, and dlm: whether it has a lock manager.
// Lines of JSON come out: what is noticed, what the quorum is told, what locks hear, answers. Lines of JSON go in, { id, op, … }: `orders` below.
// Lock names and value blocks are hex, locks have numbers that the test chooses.
import fs from 'node:fs';
import readline from 'node:readline';
import zlib from 'node:zlib';
import { alignedMemory } from '@lunfs/device';
import { Dlm, hostScheduler, listen, NodeMap, O2net, tcpTransport, timeoutsOf } from '@lunfs/o2cb';

const { number, nodes, settings, device, regionOffset, sectorSize, dlm: withDlm } = JSON.parse(process.argv[2]);
const times = timeoutsOf(settings);

/** @param {object} event */
function say(event) {
  process.stdout.write(`${JSON.stringify({ at: Math.round(performance.now()), ...event }, (_key, value) => (typeof value === 'bigint' ? String(value) : value))}\n`);
}

/** The simplest heartbeat that kernel nodes believe (cluster-protocols.md 2.2 to 2.4), with direct I/O. */
class Beat {
  local = number;
  live = new NodeMap();
  #listeners = [];
  #file = fs.openSync(device, fs.constants.O_RDWR | fs.constants.O_DIRECT);
  #region = Buffer.from(alignedMemory(Math.ceil((nodes.length * sectorSize) / 4096) * 4096));
  #own = Buffer.from(alignedMemory(4096)).subarray(0, sectorSize);
  #generation = process.hrtime.bigint() & 0x7fffffffffffffffn;
  #seen = new Map();
  #timer = setInterval(() => this.#turn(), 2000);

  constructor() {
    this.#write(this.#generation);
  }

  subscribe(_order, listener) {
    this.#listeners.push(listener);
    return () => this.#listeners.splice(this.#listeners.indexOf(listener), 1);
  }

  /** The last block says that the node has left. */
  leave() {
    clearInterval(this.#timer);
    this.#write(0n);
  }

  #write(generation) {
    const block = this.#own.fill(0);
    block.writeBigUInt64LE(BigInt(Math.floor(Date.now() / 1000)), 0);
    block.writeUInt8(number, 8);
    block.writeBigUInt64LE(generation, 16);
    block.writeUInt32LE(times.deadMs, 24);
    block.writeUInt32LE((zlib.crc32(block, 0xffffffff) ^ 0xffffffff) >>> 0, 12);
    fs.writeSync(this.#file, block, 0, sectorSize, regionOffset + number * sectorSize);
  }

  #turn() {
    fs.readSync(this.#file, this.#region, 0, this.#region.length, regionOffset);
    this.#write(this.#generation);
    if (!this.live.has(number)) this.#tell('nodeUp', number);
    for (const node of nodes.map((one) => one.number)) if (node !== number) this.#look(node);
  }

  #look(node) {
    const [seq, generation] = [0, 16].map((at) => this.#region.readBigUInt64LE(node * sectorSize + at));
    const before = this.#seen.get(node);
    const same = before?.seq === seq && before.generation === generation;
    const state = { seq, generation, changed: same ? (before?.changed ?? 0) : (before?.changed ?? -1) + 1, equal: same ? (before?.equal ?? 0) + 1 : 0 };
    this.#seen.set(node, state);
    if (this.live.has(node)) {
      if (generation !== before?.generation || state.equal >= times.threshold) {
        this.#seen.set(node, { ...state, changed: 0 });
        this.#tell('nodeDown', node);
      }
    } else if (generation !== 0n && state.changed >= 2) this.#tell('nodeUp', node);
  }

  #tell(what, node) {
    if (what === 'nodeUp') this.live.add(node);
    else this.live.delete(node);
    say({ event: what, node });
    for (const listener of [...this.#listeners]) listener[what](node);
  }
}

const beat = new Beat();
const quorum = (what) => (node) => say({ event: what, node });
const core = new O2net({
  nodes, times, membership: beat, scheduler: hostScheduler, transport: tcpTransport,
  links: { connUp: quorum('connUp'), connError: quorum('connError'), stillUp: quorum('stillUp') }, notice: (notice) => say({ event: 'notice', ...notice }),
});
const close = await listen(core, nodes.find((node) => node.number === number));
core.start();
say({ event: 'started' });

const nodeInfo = nodes.map((node) => ({ node: node.number, port: node.port, address: Buffer.from(node.address.split('.').map(Number)).readUInt32BE() }));
const dlm = withDlm ? new Dlm({ scheduler: hostScheduler, membership: beat, messenger: core, nodes: () => nodeInfo, regions: () => [], log: (_domain, event) => say({ event: 'dlm', ...event }) }) : undefined;
let domain;
const locks = new Map();
const latin1 = (hex) => Buffer.from(hex, 'hex').toString('latin1');
const hex = (bytes) => Buffer.from(bytes).toString('hex');

/** Each answers by `done`, once; what a lock hears comes as events. */
const orders = {
  request: ({ node, type, key, bytes }, done) => core.request(node, type, key, new Uint8Array(bytes), done),
  statistics: (_order, done) => done(core.statistics),
  join({ name }, done) {
    domain = dlm.domain(name, { evicted: (node) => say({ event: 'evicted', node }) });
    domain.join((error) => done(error?.message ?? 'joined'));
  },
  lock({ lock, name, level, options }, done) {
    const events = {
      ast: (result, lvb) => say({ event: 'ast', lock, result, lvb: hex(lvb) }),
      bast: (wanted) => say({ event: 'bast', lock, wanted }),
      failed: (error) => say({ event: 'failed', lock, message: error.message }),
    };
    locks.set(lock, domain.lock(latin1(name), level, events, options));
    done('asked');
  },
  convert({ lock, level, trylock, lvb }, done) {
    locks.get(lock).convert(level, { trylock, ...(lvb && { lvb: Buffer.from(lvb, 'hex') }) });
    done('asked');
  },
  cancel: ({ lock }, done) => done(locks.get(lock).cancel() ?? 'asked'),
  unlock({ lock, lvb }, done) {
    locks.get(lock).unlock(lvb && Buffer.from(lvb, 'hex'));
    locks.delete(lock);
    done('asked');
  },
  /** What is known of one resource, or of the domain. */
  inspect({ name }, done) {
    if (name === undefined) return done(domain.inspect());
    const found = [...domain.resources()].find((one) => one.name === latin1(name));
    done(found ? { ...found, name, lvb: hex(found.lvb) } : 'unknown');
  },
  leaveDomain: (_order, done) => domain.leave((error) => done(error?.message ?? 'left')),
  /** The end: the last beat says so, then connections go. */
  leave(_order, done) {
    beat.leave();
    core.stop();
    close();
    process.stdin.destroy();
    done('left');
  },
};

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const order = JSON.parse(line);
  orders[order.op](order, (result) => say({ event: 'answer', id: order.id, result }));
});
