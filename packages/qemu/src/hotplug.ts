/** Disks of a running guest: plugged in, unplugged, grown. Each is a sequence of monitor commands that leaves nothing half-made when one of them fails. */
import { IoError, LunfsError, UsageError } from '@lunfs/device';
import { diskDevice, nbdNode, portName, rawNode, topNode } from './devices.js';
import type { QmpClient } from './qmp/client.js';
import { isObject, violation } from './qmp/message.js';
import type { AttachedDisk } from './run-files.js';

/** A guest lets go of a device as soon as its kernel runs; one that boots, or has no hot-plug, never does. */
const UNPLUG_MS = 30_000;

/** Show a disk to the guest. Throws QMP_ERROR; nothing of it is left in QEMU then. */
export async function plugDisk(monitor: QmpClient, machine: string, disk: AttachedDisk): Promise<void> {
  await monitor.execute('blockdev-add', nbdNode(disk, disk.endpoint, 0));
  try {
    await monitor.execute('blockdev-add', rawNode(disk, 0));
    await monitor.execute('device_add', diskDevice(disk, portName(machine, disk.port)));
  } catch (error) {
    await removeNodes(monitor, disk.id);
    throw error;
  }
}

/**
 * Take a disk from the guest: it is asked, and gives the device back when it has ended its I/O. Throws UNPLUG_REFUSED when it says no,
 * UNPLUG_TIMEOUT when it does not answer; the disk stays then. A disk that is gone already is no error.
 */
export async function unplugDisk(monitor: QmpClient, id: string): Promise<void> {
  const outcome = monitor.awaitEvent(`the end of disk ${id}`, UNPLUG_MS, ({ name, data }) => {
    if (data.device !== id) return undefined;
    return name === 'DEVICE_DELETED' ? 'deleted' : name === 'DEVICE_UNPLUG_GUEST_ERROR' ? 'refused' : undefined;
  });
  try {
    await monitor.execute('device_del', { id });
    if ((await outcome.arrived) === 'refused') throw new UsageError('UNPLUG_REFUSED', 'EBUSY', `${monitor.what} does not let go of disk ${id}: it is in use there`, { disk: id });
  } catch (error) {
    if (!(error instanceof LunfsError)) throw error;
    if (error.code === 'QMP_TIMEOUT') throw new IoError('UNPLUG_TIMEOUT', `${monitor.what} does not let go of disk ${id} within ${UNPLUG_MS / 1000} s: its system is not up, or cannot unplug`, { disk: id }, error, 'ETIMEDOUT');
    if (error.fields.class !== 'DeviceNotFound') throw error;
  } finally {
    outcome.cancel();
  }
  await removeNodes(monitor, id);
}

/**
 * Let the guest see that its disk is `size` bytes long now (which it is already). An NBD connection keeps the size it was told when it was
 * made: so a new one is made, put under the running disk in place of the old one, and the guest told. Throws DISK_SIZE when the server says
 * otherwise.
 */
export async function growDisk(monitor: QmpClient, disk: AttachedDisk, size: number): Promise<void> {
  const generation = 1 + Math.max(-1, ...(await generationsOf(monitor, disk.id)).map((one) => one.generation));
  const fresh = nbdNode(disk, disk.endpoint, generation);
  await monitor.execute('blockdev-add', fresh);
  try {
    const seen = (await generationsOf(monitor, disk.id)).find((one) => one.generation === generation)?.size;
    if (seen !== size) throw new IoError('DISK_SIZE', `${monitor.what}: disk ${disk.id} has ${seen} bytes where it is served, not ${size}`, { disk: disk.id });
    await monitor.execute('blockdev-reopen', { options: [rawNode(disk, generation)] });
  } catch (error) {
    await removeNode(monitor, fresh['node-name']);
    throw error;
  }
  await monitor.execute('block_resize', { 'node-name': topNode(disk.id), size });
  for (const { name, generation: older } of await generationsOf(monitor, disk.id)) if (older !== generation) await removeNode(monitor, name);
}

interface Connection {
  readonly name: string;
  readonly generation: number;
  readonly size: number;
}

/** The NBD nodes of a disk: one, and those that a growth that was cut short left behind. */
async function generationsOf(monitor: QmpClient, id: string): Promise<Connection[]> {
  const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
  if (!Array.isArray(nodes)) throw violation('a list of block nodes that is none');
  return nodes.filter(isObject).flatMap((node): Connection[] => {
    const name = node['node-name'];
    const size = isObject(node.image) ? node.image['virtual-size'] : undefined;
    if (typeof name !== 'string' || typeof size !== 'number') return [];
    const generation = /^nbd-(.+)-(\d+)$/.exec(name);
    return generation?.[1] === id ? [{ name, generation: Number(generation[2]), size }] : [];
  });
}

async function removeNodes(monitor: QmpClient, id: string): Promise<void> {
  await removeNode(monitor, topNode(id));
  for (const { name } of await generationsOf(monitor, id)) await removeNode(monitor, name);
}

/** A node that is in use, or gone, stays as it is. */
async function removeNode(monitor: QmpClient, name: string): Promise<void> {
  try {
    await monitor.execute('blockdev-del', { 'node-name': name });
  } catch (error) {
    if (!(error instanceof LunfsError) || error.code !== 'QMP_ERROR') throw error;
  }
}
