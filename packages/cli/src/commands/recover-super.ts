/** `lunfs recover-super`: put a backup superblock in the place of one that is gone (fsck.ocfs2 -r). */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { type BlockDevice, LunfsError, UsageError, openIoWorkerDevice } from '@lunfs/device';
import {
  type BackupSuper, RawReader, backupView, checkOffline, findBackupSupers, pause, readBackupSuper, readGeometry, readSystemFiles, restoreSuperBlock,
} from '@lunfs/ocfs2';
import { examples } from '../command.js';
import { facts, note, print, printJson } from '../output.js';
import { formatSize, parseNumber } from '../sizes.js';
import { needDevice } from '../target.js';
import { explainBusy } from '../device-access.js';

interface Options {
  backupSuper?: number;
  force?: boolean;
  json?: boolean;
}

export function recoverSuper(program: Command): void {
  program
    .command('recover-super')
    .summary('rewrite a destroyed superblock from a backup')
    .description('Rewrite the superblock of a volume from one of the copies at 1, 4, 16, 64, 256 and 1024 GiB. Nothing else is changed; run "lunfs check" after it. Asks first.')
    .argument('<device>', 'block device or image file; nobody may have it mounted')
    .option('-B, --backup-super <number>', 'the copy to use, 1 to 6, or its block (default: the first that can be read)', parseNumber)
    .option('-F, --force', 'do not ask, and replace a superblock that is intact')
    .option('--json', 'print what was done as JSON')
    .addHelpText('after', examples('lunfs ls -B 1 /dev/mapper/lun0', 'lunfs recover-super /dev/mapper/lun0', 'lunfs recover-super -B 2 lun.img && lunfs check lun.img'))
    .action(async (text: string, options: Options) => {
      const path = needDevice(text);
      const device = await openIoWorkerDevice(path, { write: true, exclusive: true, warn: (message) => note('recover-super', message) }).catch((error: unknown) => explainBusy(path, error, true));
      try {
        await recover(device, options);
      } finally {
        await device.close();
      }
    });
}

async function recover(device: BlockDevice, options: Options): Promise<void> {
  const backup = options.backupSuper === undefined ? await firstBackup(device) : await readBackupSuper(device, options.backupSuper);
  const { geo, number, blkno } = backup;
  const intact = await readGeometry(device).then((found) => found.uuidText === geo.uuidText, (error: unknown) => {
    if (error instanceof LunfsError && (error.kind === 'corruption' || error.code === 'NOT_OCFS2')) return false;
    throw error;
  });
  if (intact && !options.force) {
    throw new UsageError('SUPER_INTACT', 'EEXIST', `${device.name}: the superblock is intact; use --force to replace it by backup ${number ?? blkno} all the same`, { device: device.name });
  }
  // The copy must fit what lies on the device: its system directory is read through it.
  const reader = new RawReader(backupView(device, backup), geo);
  const sys = await readSystemFiles(reader);
  if (!geo.local) await checkOffline(reader, sys, pause);
  if (!options.force) await confirm(device, backup);
  await restoreSuperBlock(device, backup);
  if (options.json) printJson({ device: device.name, backup: number, block: blkno, label: geo.label, uuid: geo.uuidText });
  else print(`${device.name}: the superblock is back, from ${named(backup)}. Now run "lunfs check ${device.name}".`);
}

async function firstBackup(device: BlockDevice): Promise<BackupSuper> {
  const [first] = await findBackupSupers(device);
  if (first !== undefined) return first;
  throw new UsageError('NO_BACKUP_SUPER', 'EINVAL', `${device.name} has no backup superblock that can be read: it never held an OCFS2 volume of more than 1 GiB, its backups were left out (--no-backup-super), or they are destroyed too`, { device: device.name });
}

function named({ number, blkno }: BackupSuper): string {
  return number === undefined ? `the copy in block ${blkno}` : `backup ${number} (block ${blkno})`;
}

async function confirm(device: BlockDevice, backup: BackupSuper): Promise<void> {
  const { geo } = backup;
  const what = facts([
    ['Device', device.name], ['Backup', named(backup)], ['Label', geo.label === '' ? undefined : geo.label], ['UUID', geo.uuidText],
    ['Size', `${formatSize(geo.totalClusters * geo.clusterSize)} (blocks of ${geo.blockSize}, clusters of ${geo.clusterSize})`], ['Node slots', geo.maxSlots],
  ]);
  if (!process.stdin.isTTY) {
    const volume = `${geo.label === '' ? 'an unlabelled volume' : `volume "${geo.label}"`} (uuid ${geo.uuidText}) of ${formatSize(geo.totalClusters * geo.clusterSize)}`;
    throw new UsageError('NOT_CONFIRMED', 'EEXIST', `${device.name}: nothing was written. ${named(backup)} is of ${volume}; use --force to put it in the superblock's place`, { device: device.name, uuid: geo.uuidText });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`${what}\nBlock 2 will be overwritten with this superblock. Type "yes" to do it: `);
    if (answer.trim().toLowerCase() !== 'yes') throw new UsageError('NOT_CONFIRMED', 'EEXIST', `${device.name} was not changed`, { device: device.name });
  } finally {
    prompt.close();
  }
}
