/** `lunfs info`: what a volume is. */
import type { Command } from 'commander';
import { RawReader } from '@lunfs/ocfs2';
import { backupSuperOption, examples } from '../command.js';
import { facts, print, printJson, table } from '../output.js';
import { formatSize, formatTime } from '../sizes.js';
import { needDevice } from '../target.js';
import { type SuperChoice, processFacts, withRawDevice } from '../device-access.js';
import { type VolumeDescription, describeVolume } from '../volume-facts.js';

export function info(program: Command): void {
  program
    .command('info')
    .summary('show what a volume is: superblock, features, slots, usage')
    .argument('<device>', 'block device or image file')
    .option('--json', 'print as JSON')
    .addOption(backupSuperOption())
    .addHelpText('after', examples('lunfs info /dev/mapper/lun0', 'lunfs info --json lun.img'))
    .action(async (text: string, options: SuperChoice & { json?: boolean }) => {
      const device = needDevice(text);
      const found = await withRawDevice('info', device, { beside: true, backupSuper: options.backupSuper }, async (opened) => describeVolume(await RawReader.open(opened)));
      const inUse = await processFacts(device);
      if (options.json) printJson({ ...found, inUse });
      else print(show(found) + (inUse ? `\n\nIn use on this host: ${inUse.mount ? `mounted on ${inUse.mount}` : 'not mounted'}, ${inUse.exports.length} export(s)` : ''));
    });
}

function show(v: VolumeDescription): string {
  const { space, features } = v;
  const cluster = typeof v.cluster === 'string' ? (v.cluster === 'local' ? 'none: a local volume' : 'o2cb (classic)') : v.cluster && `${v.cluster.name}, cluster ${v.cluster.cluster}${v.cluster.globalHeartbeat ? ', global heartbeat' : ''}`;
  const head = facts([
    ['Device', v.device], ['Label', v.label === '' ? undefined : v.label], ['UUID', v.uuid], ['Revision', v.revision], ['Created or checked', formatTime(v.created)],
    ['Block size', v.blockSize], ['Cluster size', `${v.clusterSize} (${formatSize(v.clusterSize)})`],
    ['Size', `${formatSize(space.bytes)} (${space.clusters} clusters)`], ['Used', `${formatSize(space.usedBytes)} (${percent(space.usedClusters, space.clusters)})`], ['Free', formatSize(space.freeBytes)],
    ['Cluster stack', cluster], ['Compatible', features.compat.join(' ') || 'none'], ['Incompatible', features.incompat.join(' ') || 'none'], ['Read-only compatible', features.roCompat.join(' ') || 'none'],
    ['Root directory', `inode ${v.rootInode}`], ['System directory', `inode ${v.systemDirectoryInode}`], ['First cluster group', `block ${v.firstClusterGroup}`], ['Node slots', v.maxSlots],
  ]);
  const rows = v.slots.map(({ slot, node, journal }) => [String(slot), node === undefined ? 'free' : `node ${node}`, formatSize(journal.size), journal.dirty ? 'dirty' : 'clean']);
  return `${head}\n\n${table(['>Slot', 'In use by', '>Journal', ''], rows)}`;
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '0%' : `${((100 * part) / whole).toFixed(1)}%`;
}
