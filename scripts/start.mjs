// npm start: the main job on an embedded default. A file-backed LUN is formatted, mounted, a disk made on it and exported,
// and a guest run from that disk; then everything is closed, checked and what the guest wrote is read back. What this
// machine lacks is named and left out. The LUN stays in .cache/start to play with; the next start makes it anew.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setup } from './setup.mjs';
import { findProgram, oracleMissing } from './lib/oracles.mjs';
import { cacheDir, root, run, seconds } from './lib/run.mjs';

const LUN_BYTES = 4 * 2 ** 30;
const DISK_BYTES = 768 * 2 ** 20;
const GUEST_WRITES_MIB = 64;

const work = path.join(cacheDir, 'start');
const lun = path.join(work, 'lun.img');
const mountPoint = path.join(work, 'mnt');
const launcher = path.join(root, 'packages/cli/bin/lunfs.cjs');
// Sockets have short paths; a directory of its own keeps this apart from the volumes of this host.
const runDirectory = fs.mkdtempSync('/tmp/lunfs-start-');
process.env.LUNFS_RUN_DIR = runDirectory;

/** What ran, for the summary: [what, time or why not]. */
const steps = [];
const undo = [];

async function lunfs(...args) {
  const { status, output, ms } = await run(process.execPath, [launcher, ...args]);
  if (status !== 0) throw new Error(`lunfs ${args.join(' ')}: exit code ${status}\n${output}`);
  return { output, ms };
}

async function step(what, work) {
  process.stdout.write(`start: ${what} … `);
  const started = performance.now();
  try {
    const said = await work();
    const time = seconds(performance.now() - started);
    console.log(`${time}${said ? `; ${said}` : ''}`);
    steps.push([what, time]);
  } catch (error) {
    console.log('failed');
    throw error;
  }
}

function skip(what, why) {
  console.log(`start: ${what}: left out, ${why}`);
  steps.push([what, `left out: ${why}`]);
}

/** Ends what still runs, last begun first. Safe to call twice. */
async function cleanUp() {
  for (const action of undo.splice(0).reverse()) {
    try {
      await action();
    } catch (error) {
      console.error(`start: cleaning up: ${error.message}`);
    }
  }
  fs.rmSync(runDirectory, { recursive: true, force: true });
}

async function guestRootImage() {
  const why = oracleMissing('qemu') ?? oracleMissing('kernel');
  if (why) return { why };
  const { guestRoot } = await import('./lib/machine/images.mjs');
  let image;
  await step('building the guest\'s own root: ext4, from this machine\'s programs', async () => {
    image = await guestRoot(DISK_BYTES);
  });
  return { image };
}

/** Boots a guest from the export, lets it write and power off. Returns the hash of what it wrote. */
async function runGuest(socket) {
  const { Machine, provenAccel } = await import('./lib/machine/machine.mjs');
  const accel = await provenAccel();
  let hash;
  await step(`a guest boots from the disk (${accel === 'kvm' ? 'KVM' : 'TCG, KVM does not work here'}), writes ${GUEST_WRITES_MIB} MiB, syncs, powers off`, async () => {
    const machine = await Machine.start({ hostname: 'guest', accel, disks: [{ nbd: { socket, exportName: 'vm1.raw' }, serial: 'root' }], root: 'disk' });
    undo.push(() => machine.kill());
    const system = (await machine.must('uname -sr')).trim();
    await machine.must(`dd if=/dev/urandom of=/written bs=1M count=${GUEST_WRITES_MIB} status=none && sync`, { timeoutMs: 300_000 });
    hash = (await machine.must('sha256sum /written')).split(' ')[0];
    await machine.shutdown();
    return `${system}, up after ${seconds(machine.bootMs)}`;
  });
  return hash;
}

/** What the guest wrote, read from the closed volume without it. */
async function readBack(hash) {
  const debugfs = findProgram('debugfs');
  if (!debugfs) return skip('reading back what the guest wrote', 'no debugfs of e2fsprogs');
  await step('what the guest wrote is read back from the LUN and compared', async () => {
    const copy = path.join(work, 'copy.raw');
    const file = path.join(work, 'written');
    try {
      await lunfs('cp', '-q', `${lun}:/vm1.raw`, copy);
      const { status, output } = await run(debugfs, ['-R', `dump /written ${file}`, copy]);
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

async function check() {
  await step('lunfs check', async () => {
    await lunfs('check', '-q', lun);
    return 'clean';
  });
  const fsck = findProgram('fsck.ocfs2');
  if (!fsck) return skip('fsck.ocfs2 -fn', 'ocfs2-tools is not installed');
  await step('fsck.ocfs2 -fn', async () => {
    const { status, output } = await run('sh', ['-c', 'ulimit -v 262144; exec "$0" -fn "$1"', fsck, lun]);
    if (status !== 0 || !output.includes('All passes succeeded.')) throw new Error(`fsck.ocfs2 -fn: exit code ${status}\n${output}`);
    return 'all passes succeeded';
  });
}

async function main() {
  const began = performance.now();
  await setup();
  fs.rmSync(work, { recursive: true, force: true });
  fs.mkdirSync(mountPoint, { recursive: true });
  const guest = await guestRootImage();
  await step(`lunfs mkfs on a file-backed LUN of ${LUN_BYTES / 2 ** 30} GiB`, async () => {
    fs.closeSync(fs.openSync(lun, 'w'));
    fs.truncateSync(lun, LUN_BYTES);
    await lunfs('mkfs', '-q', '-T', 'vmstore', '-M', 'local', '-L', 'lunfs-start', lun);
  });
  await step('lunfs disk create', async () => {
    await lunfs('disk', 'create', '-q', `${lun}:/vm1.raw`, String(DISK_BYTES));
    return `${DISK_BYTES / 2 ** 20} MiB, thin`;
  });
  if (guest.image) await step('lunfs cp: the guest\'s root onto the disk', async () => void (await lunfs('cp', '-q', guest.image, `${lun}:/vm1.raw`)));
  const noMount = oracleMissing('fuse');
  undo.push(async () => {
    await run(process.execPath, [launcher, 'umount', '-f', lun]); // fails when nothing is in use any more
  });
  if (noMount) skip('lunfs mount', noMount);
  else {
    await step('lunfs mount', async () => {
      await lunfs('mount', lun, mountPoint);
      fs.writeFileSync(path.join(mountPoint, 'hello.txt'), 'written through the mount\n');
      return `${mountPoint}: ${fs.readdirSync(mountPoint).join(' ')}`;
    });
  }
  let exported;
  await step('lunfs disk export', async () => {
    exported = JSON.parse((await lunfs('disk', 'export', '--json', `${lun}:/vm1.raw`)).output);
    return exported.uri;
  });
  let hash;
  if (guest.why) skip('running a guest from the disk', guest.why);
  else hash = await runGuest(exported.socket);
  await step('lunfs umount: export and mount are ended, the volume is closed', async () => void (await lunfs('umount', lun)));
  await check();
  if (hash) await readBack(hash);
  summary(began, exported);
}

function summary(began, exported) {
  const width = Math.max(...steps.map(([what]) => what.length));
  console.log(`\nWhat ran, in ${seconds(performance.now() - began)}:`);
  for (const [what, result] of steps) console.log(`  ${what.padEnd(width)}  ${result}`);
  console.log(`
The LUN is ${lun}; look around:
  npx lunfs info ${lun}
  npx lunfs ls -l ${lun}
  npx lunfs disk info ${lun}:/vm1.raw

The same by hand on a real LUN (everything on it is lost; mkfs says what that is, and asks):
  npx lunfs mkfs -T vmstore -M local -L vms /dev/mapper/LUN
  npx lunfs disk create /dev/mapper/LUN:/vm1.raw 20G
  npx lunfs mount /dev/mapper/LUN /mnt
  npx lunfs disk export /dev/mapper/LUN:/vm1.raw
  qemu-system-x86_64 -m 2G … ${exported.lines.qemuCommand.replaceAll(exported.socket, 'SOCKET')}
  npx lunfs umount /dev/mapper/LUN
  npx lunfs check /dev/mapper/LUN
("lunfs disk export" prints the lines for QEMU, libvirt and qemu-img with the real socket.)`);
}

let stopping = false;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    console.log(`\nstart: ${signal}, cleaning up`);
    void cleanUp().then(() => process.exit(signal === 'SIGINT' ? 130 : 143));
  });
}
try {
  await main();
} catch (error) {
  if (!stopping) {
    console.error(`start: ${error.message}`);
    process.exitCode = 1;
  }
} finally {
  if (!stopping) await cleanUp();
}
