// A node of ours for tests: it beats on the LUN and speaks o2net, nothing more.
//
// Argument: JSON with number, nodes, settings (o2cb's), device, regionOffset (bytes), sectorSize. Lines of JSON come out: what o2net notices,
// what the quorum is told, answers. Lines of JSON go in: { id, op: 'request', node, type, key, bytes } | { id, op: 'statistics' } | { op: 'leave' }.
import fs from 'node:fs';
import readline from 'node:readline';
import zlib from 'node:zlib';
import { alignedMemory } from '@lunfs/device';
import { hostScheduler, listen, NodeMap, O2net, tcpTransport, timeoutsOf } from '@lunfs/o2cb';

const { number, nodes, settings, device, regionOffset, sectorSize } = JSON.parse(process.argv[2]);
const times = timeoutsOf(settings);

/** @param {object} event */
function say(event) {
  process.stdout.write(`${JSON.stringify({ at: Math.round(performance.now()), ...event })}\n`);
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

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, op, node, type, key, bytes } = JSON.parse(line);
  if (op === 'request') core.request(node, type, key, new Uint8Array(bytes), (result) => say({ event: 'answer', id, result }));
  else if (op === 'statistics') say({ event: 'answer', id, result: core.statistics });
  else {
    beat.leave();
    core.stop();
    close();
    process.exitCode = 0;
    process.stdin.destroy();
  }
});
