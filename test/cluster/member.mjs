// A member of a cluster for tests: heartbeat, quorum, o2net and o2dlm on one host, no file system. It takes orders.
//
// Argument: JSON with number, nodes, settings (o2cb's), device, region (its name), regionOffset (bytes), sectorSize, and dlm: whether it has a
// lock manager. Lines of JSON come out: what is noticed, what locks hear, answers. Lines of JSON go in, { id, op, … }: `orders` below.
// Lock names and value blocks are hex, locks have numbers that the test chooses.
import { randomBytes } from 'node:crypto';
import readline from 'node:readline';
import { Dlm, Heartbeat, hostScheduler, listen, NodeMap, O2net, ORDER_QUORUM, Quorum, regionThread, tcpTransport, timeoutsOf } from '@lunfs/o2cb';

const { number, nodes, settings, device, region, regionOffset, sectorSize, dlm: withDlm } = JSON.parse(process.argv[2]);
const times = timeoutsOf(settings);

/** @param {object} event */
function say(event) {
  process.stdout.write(`${JSON.stringify({ at: Math.round(performance.now()), ...event }, (_key, value) => (typeof value === 'bigint' ? String(value) : value))}\n`);
}

const heartbeat = new Heartbeat({
  node: number, mode: 'local', timeouts: times, configured: new NodeMap(nodes.map((node) => node.number)), scheduler: hostScheduler, random: () => randomBytes(8).readBigUInt64LE(),
  renewed: () => {}, lost: (loss) => say({ event: 'lost', ...loss }), warning: (_region, message) => say({ event: 'warning', message }),
});
const { membership } = heartbeat;
const quorum = new Quorum(number, hostScheduler, (reason) => heartbeat.giveUp(reason));
membership.subscribe(ORDER_QUORUM, quorum);
membership.subscribe(ORDER_QUORUM, { nodeUp: (node) => say({ event: 'nodeUp', node }), nodeDown: (node) => say({ event: 'nodeDown', node }) });
const core = new O2net({
  nodes, times, membership, scheduler: hostScheduler, transport: tcpTransport, links: quorum, notice: (notice) => say({ event: 'notice', ...notice }),
  severed: (_node, reason) => heartbeat.giveUp(reason),
});
const close = await listen(core, nodes.find((node) => node.number === number));
core.start();
heartbeat.attach(core);
heartbeat.start(region, regionThread({ device, offset: regionOffset, blockBytes: sectorSize }), (error) => say({ event: 'beating', ...(error && { message: error.message }) }));

const nodeInfo = nodes.map((node) => ({ node: node.number, port: node.port, address: Buffer.from(node.address.split('.').map(Number)).readUInt32BE() }));
const dlm = withDlm ? new Dlm({ scheduler: hostScheduler, membership, messenger: core, nodes: () => nodeInfo, regions: () => [], log: (_domain, event) => say({ event: 'dlm', ...event }) }) : undefined;
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
    heartbeat.stop(region, () => {
      core.stop();
      close();
      process.stdin.destroy();
      done('left');
    });
  },
};

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const order = JSON.parse(line);
  orders[order.op](order, (result) => say({ event: 'answer', id: order.id, result }));
});
