// npm start: the main job on an embedded default. A LUN in a file is formatted, and three hosts mount it at once, each with a lunfsd, an
// address, a directory and a loop device of its own. A guest runs on the first from its disk on the volume while the other two work in the
// same files and directories; the third is killed, the others recover it, it comes back. Then all is closed, checked, and what the guest
// wrote is read back. Where this machine has no root, no FUSE or no loop devices one host does what it can without a cluster, and it is said
// what is left out and why. The LUN stays in .cache/start (--dir DIRECTORY: elsewhere) to play with; the next start makes it anew.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setup } from './setup.mjs';
import { Host, clusterHosts, detachAll } from './lib/hosts.mjs';
import { optionsOf } from './lib/options.mjs';
import { findProgram, oracleMissing } from './lib/oracles.mjs';
import { cacheDir, run, seconds } from './lib/run.mjs';
import { Steps } from './lib/steps.mjs';

const LUN_BYTES = 4 * 2 ** 30;
const DISK_BYTES = 768 * 2 ** 20;
const GUEST_WRITES_MIB = 64;
const HOSTS = 3;
const CLUSTER = 'start';
/** The shortest that o2cb's tools offer: a silent host is dead after 14 s. The default is 31, 62 s. */
const THRESHOLD = 7;
const DEAD_MS = THRESHOLD * 2000;
const WORK_MS = 4000;

const values = optionsOf(import.meta.filename, { dir: { type: 'string', default: path.join(cacheDir, 'start') } });
const work = path.resolve(values.dir);
const lun = path.join(work, 'lun.img');
const steps = new Steps('start');
const { signal } = steps;

/** The guest's root, or why there can be none. */
async function guestImage() {
  const why = oracleMissing('qemu') ?? oracleMissing('kernel');
  if (why) return { why };
  const { guestRoot } = await import('./lib/machine/images.mjs');
  let image;
  await steps.step('the guest\'s own root is built: ext4, from this machine\'s programs', async () => {
    image = await guestRoot(DISK_BYTES);
  });
  return { image };
}

/** @param {Host} host @param {string[]} kind */
async function format(host, ...kind) {
  await steps.step(`lunfs mkfs on a file-backed LUN of ${LUN_BYTES / 2 ** 30} GiB`, async () => {
    await host.lunfs('mkfs', '-q', '-T', 'vmstore', ...kind, '-L', 'lunfs-start', host.device);
  });
}

/** @param {Host} host */
async function createDisk(host) {
  await steps.step(`lunfs disk create on ${host.name}`, async () => {
    await host.lunfs('disk', 'create', '-q', `${host.device}:/vm1.raw`, String(DISK_BYTES));
    return `${DISK_BYTES / 2 ** 20} MiB, thin`;
  });
}

/** Exports the disk on a host. Returns what "lunfs disk export" tells. @param {Host} host */
async function exportDisk(host) {
  let exported;
  await steps.step(`lunfs disk export on ${host.name}`, async () => {
    exported = JSON.parse((await host.lunfs('disk', 'export', '--json', `${host.device}:/vm1.raw`)).output);
    return exported.uri;
  });
  return exported;
}

/** A guest that runs from the export. */
class Guest {
  /** @type {string | undefined} */
  hash;

  constructor(machine) {
    this.machine = machine;
  }

  static async boot(socket) {
    const { Machine, provenAccel } = await import('./lib/machine/machine.mjs');
    const accel = await provenAccel();
    let guest;
    await steps.step(`a guest boots from the disk (${accel === 'kvm' ? 'KVM' : 'TCG, KVM does not work here'})`, async () => {
      const machine = await Machine.start({ hostname: 'guest', accel, disks: [{ nbd: { socket, exportName: 'vm1.raw' }, serial: 'root' }], root: 'disk', signal });
      guest = new Guest(machine);
      return `${(await machine.must('uname -sr')).trim()}, up after ${seconds(machine.bootMs)}`;
    });
    return guest;
  }

  async write() {
    await this.machine.must(`dd if=/dev/urandom of=/written bs=1M count=${GUEST_WRITES_MIB} status=none && sync`, { timeoutMs: 300_000 });
    this.hash = (await this.machine.must('sha256sum /written')).split(' ')[0];
  }

  /** Writes and syncs, again and again, until `end` is called, which tells how often and what the longest wait was. */
  writing() {
    const loop = this.machine.must('n=0; worst=0; until [ -e /run/enough ]; do from=$EPOCHREALTIME; dd if=/dev/zero of=/more bs=64k count=1 seek=$((n % 256)) conv=notrunc,fsync status=none || exit 1; ' +
      'took=$(( ${EPOCHREALTIME/./} - ${from/./} )); [ $took -gt $worst ] && worst=$took; n=$((n + 1)); done; echo $n $worst', { timeoutMs: 600_000 });
    loop.catch(() => undefined); // told by `end`
    return {
      end: async () => {
        await this.machine.must('touch /run/enough');
        const [writes, worst] = (await loop).trim().split(' ').map(Number);
        return { writes, worstMs: worst / 1000 };
      },
    };
  }
}

/** The program host-work.mjs on a host: what it has synced so far, by its own count. */
class Work {
  rounds = 0;

  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    this.child = host.start(process.execPath, [path.join(import.meta.dirname, 'lib/host-work.mjs'), host.mount, host.name]);
    let said = '';
    this.child.stdout.on('data', (part) => {
      this.rounds = Number(String(part).trim().split('\n').at(-1));
    });
    this.child.stderr.on('data', (part) => { said += String(part); });
    this.child.on('error', () => undefined); // stopped: `ended` tells
    this.ended = new Promise((resolve) => {
      this.child.on('close', (status) => resolve({ status, said: said.trim() }));
    });
  }

  /** Lets it end its round; fails with what it failed of. */
  async stop() {
    this.child.kill('SIGTERM');
    const { status, said } = await this.ended;
    if (status !== 0) throw new Error(`the work on ${this.host.name} failed: ${said}`);
  }
}

/** What the hosts have synced is in the shared file, each line once and in order, whoever reads it. @param {Host} host @param {Work[]} works */
async function verifyTurns(host, works) {
  const lines = (await host.sh('cat $M/turns')).output.trimEnd().split('\n');
  for (const { host: writer, rounds } of works) {
    const mine = lines.filter((line) => line.startsWith(`${writer.name} `)).map((line) => Number(line.split(' ')[1]));
    const wrong = mine.findIndex((round, i) => round !== i + 1);
    if (wrong >= 0 || mine.length < rounds) throw new Error(`${host.name} reads ${mine.length} lines of ${writer.name} in /turns, which synced ${rounds}${wrong < 0 ? '' : `; line ${wrong + 1} says ${mine[wrong]}`}`);
  }
  return lines.length;
}

/** Three hosts, one volume. @param {Host[]} hosts */
async function together(hosts, guest) {
  const [, second, third] = hosts;
  let works = [];
  await steps.step(`${guest ? `the guest writes ${GUEST_WRITES_MIB} MiB; ` : ''}${second.name} and ${third.name} append in turn to one file, create and rename in one directory`, async () => {
    await second.sh('mkdir $M/shared');
    works = [second, third].map((host) => new Work(host));
    await Promise.all([guest?.write(), steps.pause(WORK_MS)]);
    for (const { rounds, host } of works) if (rounds === 0) throw new Error(`${host.name} has done nothing in ${WORK_MS / 1000} s`);
    return `${works.map(({ rounds, host }) => `${host.name} ${rounds} rounds`).join(', ')}, all synced`;
  });
  await killed(hosts, works, guest);
}

/** SIGKILL to all of the third host. @param {Host[]} hosts @param {Work[]} works */
async function killed(hosts, works, guest) {
  const [first, second, third] = hosts;
  const writing = guest?.writing();
  let rounds = 0;
  await steps.step(`${third.name} is killed (SIGKILL to lunfsd, volume process and work); the others recover it`, async () => {
    const at = performance.now();
    third.kill();
    works[1].child.kill('SIGKILL');
    rounds = works[1].rounds;
    // What the dead host held is what one must wait for: a file that it alone wrote.
    const times = await Promise.all([first, second].map(async (host) => {
      await host.sh(`echo ${host.name} >> $M/last-of-${third.name} && sync $M/last-of-${third.name}`);
      return performance.now() - at;
    }));
    return `${first.name} wrote to a file that ${third.name} held after ${seconds(times[0])}, ${second.name} after ${seconds(times[1])}; a silent host is dead after ${DEAD_MS / 1000} s`;
  });
  await works[1].ended;
  await steps.step(`all that ${third.name} had synced is there`, async () => {
    await works[0].stop();
    const lines = await verifyTurns(first, works);
    const last = Number((await second.sh(`head -n1 $M/last-of-${third.name}`)).output);
    if (last < rounds) throw new Error(`${third.name} had synced round ${rounds} to last-of-${third.name}, which says ${last}`);
    return `${lines} lines of /turns, each once and in order`;
  });
  if (writing) {
    await steps.step('the guest wrote meanwhile', async () => {
      const { writes, worstMs } = await writing.end();
      return `${writes} writes synced, the longest took ${seconds(worstMs)}`;
    });
  }
  await steps.step(`${third.name} comes back: lunfs up; what was mounted is mounted again`, async () => {
    await third.clean();
    await third.up();
    await third.returns();
    await verifyTurns(third, works);
    await third.sh(`echo back > $M/back-${third.name}`);
    if ((await first.sh(`cat $M/back-${third.name}`)).output !== 'back\n') throw new Error(`${first.name} does not see what ${third.name} writes`);
  });
}

/** What the guest wrote, read from the closed volume without it. @param {Host} host */
async function readBack(host, hash) {
  const debugfs = findProgram('debugfs');
  if (!debugfs) return steps.skip('reading back what the guest wrote', 'no debugfs of e2fsprogs');
  await steps.step('what the guest wrote is read back from the LUN and compared', async () => {
    const copy = path.join(work, 'copy.raw');
    const file = path.join(work, 'written');
    try {
      await host.lunfs('cp', '-q', `${host.device}:/vm1.raw`, copy);
      const { status, output } = await run(debugfs, ['-R', `dump /written ${file}`, copy], { signal });
      if (status !== 0 || !fs.existsSync(file)) throw new Error(`debugfs found no /written in the disk\n${output}`);
      const found = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
      if (found !== hash) throw new Error(`the guest wrote ${hash}, the LUN holds ${found}`);
      return `sha256 ${hash.slice(0, 16)}… both times`;
    } finally {
      fs.rmSync(copy, { force: true });
      fs.rmSync(file, { force: true });
    }
  });
}

/** @param {Host} host */
async function check(host) {
  await steps.step('lunfs check', async () => {
    await host.lunfs('check', '-q', host.device);
    return 'clean';
  });
  const fsck = findProgram('fsck.ocfs2');
  if (!fsck) return steps.skip('fsck.ocfs2 -fn', 'ocfs2-tools is not installed');
  await steps.step('fsck.ocfs2 -fn', async () => {
    const { status, output } = await run('sh', ['-c', 'ulimit -v 262144; exec "$0" -fn "$1"', fsck, host.device], { signal });
    if (status !== 0 || !output.includes('All passes succeeded.')) throw new Error(`fsck.ocfs2 -fn: exit code ${status}\n${output}`);
    return 'all passes succeeded';
  });
}

/** @param {Host[]} hosts */
async function clusterRun(hosts, guestRoot) {
  const [first, ...others] = hosts;
  await format(first, '-N', '4', '--cluster-stack', 'o2cb', '--cluster-name', CLUSTER);
  await steps.step(`lunfs up on ${HOSTS} hosts`, async () => {
    await Promise.all(hosts.map((host) => host.up()));
    return hosts.map(({ name, node, device }) => `${name} (${node.address}, ${device})`).join(', ');
  });
  await steps.step(`lunfs mount on ${first.name}`, async () => void (await first.mountVolume()));
  await steps.step(`lunfs mount on ${others.map(({ name }) => name).join(' and ')}, at once`, async () => {
    await Promise.all(others.map((host) => host.mountVolume()));
    const { volumes } = await first.status();
    return `domain members ${volumes[0].domain.members.join(', ')}`;
  });
  await createDisk(first);
  if (guestRoot.image) {
    await steps.step('the guest\'s root is copied onto the disk, through the mount', async () => {
      await first.sh(`dd if='${guestRoot.image}' of=$M/vm1.raw bs=1M conv=notrunc,sparse,fsync status=none`);
    });
  }
  const exported = await exportDisk(first);
  let guest;
  if (guestRoot.why) steps.skip('running a guest from the disk', guestRoot.why);
  else guest = await Guest.boot(exported.socket);
  await together(hosts, guest);
  if (guest) await steps.step('the guest powers off', () => guest.machine.shutdown());
  await steps.step(`lunfs down on all hosts: unmounted, the cluster left`, async () => void (await Promise.all(hosts.map((host) => host.lunfs('down')))));
  await check(first);
  if (guest) await readBack(first, guest.hash);
  return exported;
}

/** Without a cluster. @param {Host} host @param {string} why */
async function aloneRun(host, why, guestRoot) {
  steps.skip(`${HOSTS} hosts on one LUN`, `${why}; one host without a cluster instead`);
  host.device = lun;
  await format(host, '-M', 'local');
  await createDisk(host);
  if (guestRoot.image) await steps.step('lunfs cp: the guest\'s root onto the disk', async () => void (await host.lunfs('cp', '-q', guestRoot.image, `${lun}:/vm1.raw`)));
  const noMount = oracleMissing('fuse');
  if (noMount) steps.skip('lunfs mount', noMount);
  else {
    await steps.step('lunfs mount', async () => {
      await host.mountVolume();
      fs.writeFileSync(path.join(host.mount, 'hello.txt'), 'written through the mount\n');
      return `${host.mount}: ${fs.readdirSync(host.mount).join(' ')}`;
    });
  }
  const exported = await exportDisk(host);
  let guest;
  if (guestRoot.why) steps.skip('running a guest from the disk', guestRoot.why);
  else {
    guest = await Guest.boot(exported.socket);
    await steps.step(`the guest writes ${GUEST_WRITES_MIB} MiB, syncs, powers off`, async () => {
      await guest.write();
      await guest.machine.shutdown();
    });
  }
  await steps.step('lunfs umount: export and mount are ended, the volume is closed', async () => void (await host.lunfs('umount', lun)));
  await check(host);
  if (guest) await readBack(host, guest.hash);
  return exported;
}

async function main() {
  const began = performance.now();
  await setup();
  const guestRoot = await guestImage();
  await detachAll(lun); // of a start that was killed
  fs.rmSync(work, { recursive: true, force: true });
  fs.mkdirSync(work, { recursive: true });
  // Sockets have short paths, and this is nothing of this host's own volumes.
  const directory = fs.mkdtempSync('/tmp/lunfs-start-');
  const hosts = [];
  steps.atEnd(async () => {
    for (const host of hosts) await host.clean();
    await detachAll(lun);
    fs.rmSync(directory, { recursive: true, force: true });
  });
  fs.closeSync(fs.openSync(lun, 'w'));
  fs.truncateSync(lun, LUN_BYTES);
  let why = oracleMissing('fuse') ?? oracleMissing('loop');
  if (!why) {
    try {
      const settings = { O2CB_HEARTBEAT_THRESHOLD: THRESHOLD, O2CB_IDLE_TIMEOUT_MS: 5000 };
      hosts.push(...(await clusterHosts(directory, lun, { count: HOSTS, cluster: CLUSTER, settings, signal })));
    } catch (error) {
      why = error.message;
      await detachAll(lun);
    }
  }
  if (why) hosts.push(new Host({ number: 0, name: 'host', address: '' }, path.join(directory, 'host'), signal));
  const exported = why ? await aloneRun(hosts[0], why, guestRoot) : await clusterRun(hosts, guestRoot);
  steps.summary(performance.now() - began);
  console.log(`
The LUN is ${lun}; look around:
  npx lunfs info ${lun}
  npx lunfs ls -l ${lun}
  npx lunfs disk info ${lun}:/vm1.raw

The same by hand on a real LUN (everything on it is lost; mkfs says what that is, and asks). Once, and cluster.conf to every host:
  npx lunfs o2cb add-cluster prod
  npx lunfs o2cb add-node prod HOST --ip ADDRESS         (each host, with its name and address)
  npx lunfs mkfs -T vmstore -N 8 --cluster-stack o2cb --cluster-name prod -L vms /dev/mapper/LUN
On every host:
  npx lunfs up
  npx lunfs mount /dev/mapper/LUN /mnt
  npx lunfs cluster status
On one of them:
  npx lunfs disk create /dev/mapper/LUN:/vm1.raw 20G
  npx lunfs disk export /dev/mapper/LUN:/vm1.raw
  qemu-system-x86_64 -m 2G … ${exported.lines.qemuCommand.replaceAll(exported.socket, 'SOCKET')}
At the end:
  npx lunfs down
  npx lunfs check /dev/mapper/LUN                        (on one, when all are down)
("lunfs disk export" prints the lines for QEMU, libvirt and qemu-img with the real socket.)`);
}

await steps.run(main);
