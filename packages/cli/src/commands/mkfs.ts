/** `lunfs mkfs`: mkfs.ocfs2's options and letters; asks before it overwrites anything it recognises. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { type BlockDevice, ClusterError, UsageError, openDevice } from '@lunfs/device';
import { type MkfsOptions, type VolumePlan, type VolumeSignature, formatVolume, pause, planVolume, probeVolume, systemRandom } from '@lunfs/ocfs2';
import { type Signature, probeSignatures, refuseUnfit, thisHost } from '@lunfs/san';
import { wallSeconds } from '../clock.js';
import { examples } from '../command.js';
import { volumeFeatures } from '../features.js';
import { facts, note, print, printJson } from '../output.js';
import { Progress } from '../progress.js';
import { formatSize, parseNumber, parseSize } from '../sizes.js';
import { needDevice } from '../target.js';

interface Options {
  blockSize?: number;
  clusterSize?: number;
  nodeSlots?: number;
  journalOptions?: { size?: number; block64?: boolean };
  label?: string;
  uuid?: string;
  mount?: string;
  type?: string;
  fsFeatures?: string;
  fsFeatureLevel?: string;
  clusterStack?: string;
  clusterName?: string;
  globalHeartbeat?: boolean;
  backupSuper: boolean;
  discard: boolean;
  dryRun?: boolean;
  force?: boolean;
  quiet?: boolean;
  json?: boolean;
}

/** Something that would be lost. */
type Found = Signature & Pick<VolumeSignature, 'inUse'>;

export function mkfs(program: Command): void {
  program
    .command('mkfs')
    .summary('make an OCFS2 volume')
    .description('Make an OCFS2 volume, as mkfs.ocfs2 does with the same options. Everything on the device is lost; what is recognised there is named, and asked about.')
    .argument('<device>', 'block device or image file')
    .argument('[blocks]', 'size of the volume in blocks (default: the device)', parseNumber)
    .option('-b, --block-size <size>', 'block size: 512 to 4K (default: by size)', parseSize)
    .option('-C, --cluster-size <size>', 'cluster size: 4K to 1M (default: by size and type)', parseSize)
    .option('-N, --node-slots <count>', 'how many nodes can mount it at once', parseNumber)
    .option('-J, --journal-options <list>', 'size=SIZE, block32, block64', parseJournal)
    .option('-L, --label <text>', 'volume label')
    .option('-U, --uuid <uuid>', 'the uuid instead of a random one')
    .option('-M, --mount <kind>', 'local (one host, no cluster) or cluster')
    .option('-T, --type <type>', 'what it will hold: mail, datafiles or vmstore')
    .option('--fs-features <list>', 'features to add, or with "no" before them to leave out')
    .option('--fs-feature-level <level>', 'max-compat, default or max-features')
    .option('--cluster-stack <name>', 'o2cb, pcmk or cman')
    .option('--cluster-name <name>', 'name of the cluster')
    .option('--global-heartbeat', 'the cluster beats on other devices')
    .option('--no-backup-super', 'keep no copies of the superblock')
    .option('--discard', 'discard the device first where it can (default)', true)
    .option('--nodiscard', 'do not')
    .option('-n, --dry-run', 'show what would be made, write nothing')
    .option('-F, --force', 'do not ask')
    .option('-q, --quiet', 'print nothing but errors')
    .option('--json', 'print what was made as JSON')
    .addHelpText('after', examples('lunfs mkfs -T vmstore -L vms -N 8 --cluster-stack o2cb --cluster-name prod /dev/mapper/lun0', 'truncate -s 4G lun.img && lunfs mkfs -T vmstore -M local lun.img', 'lunfs mkfs -n lun.img'))
    .action(async (device: string, blocks: number | undefined, options: Options & { nodiscard?: boolean }) => {
      await run(needDevice(device), blocks, { ...options, discard: options.discard && options.nodiscard !== true });
    });
}

async function run(path: string, blocks: number | undefined, options: Options): Promise<void> {
  const wanted = mkfsOptions(blocks, options);
  const warn = (message: string) => note('mkfs', message);
  await refuseUnfit(thisHost, path);
  const device = await openDevice(path, { write: options.dryRun !== true, exclusive: options.dryRun !== true, warn });
  try {
    const plan = planVolume(device, wanted);
    const volume = await probeVolume(device, pause);
    const found: Found[] = [...(volume === undefined ? [] : [volume]), ...(await probeSignatures(device))];
    if (options.dryRun) {
      show(path, plan, found, options, undefined);
      return;
    }
    await confirm(device, found, options);
    const progress = new Progress('mkfs', 'bytes', options.quiet);
    const made = await formatVolume(device, wanted, {
      random: systemRandom, time: wallSeconds(), progress: ({ stage, done, total }) => progress.tell(stage, done, total),
    }).finally(() => progress.end());
    if (!options.quiet) show(path, made, found, options, 'made');
  } finally {
    await device.close();
  }
}

function mkfsOptions(blocks: number | undefined, options: Options): MkfsOptions {
  return {
    blockSize: options.blockSize, clusterSize: options.clusterSize, slots: options.nodeSlots, journalSize: options.journalOptions?.size,
    journal64: options.journalOptions?.block64, label: options.label, uuid: options.uuid && checkUuid(options.uuid),
    mount: oneOf('-M', options.mount, ['local', 'cluster']), type: oneOf('-T', options.type, ['mail', 'datafiles', 'vmstore']),
    featureLevel: oneOf('--fs-feature-level', options.fsFeatureLevel, ['default', 'max-compat', 'max-features']), features: options.fsFeatures,
    clusterStack: options.clusterStack, clusterName: options.clusterName, globalHeartbeat: options.globalHeartbeat,
    noBackupSuper: !options.backupSuper, discard: options.discard, sizeInBlocks: blocks,
  };
}

function oneOf<T extends string>(option: string, value: string | undefined, choices: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const found = choices.find((one) => one === value);
  if (found !== undefined) return found;
  throw new UsageError('BAD_OPTION', 'EINVAL', `${option} ${value}: must be ${choices.join(' or ')}`, { option, value });
}

function checkUuid(text: string): string {
  if (/^[0-9a-f]{32}$/i.test(text.replaceAll('-', ''))) return text;
  throw new UsageError('BAD_UUID', 'EINVAL', `"${text}" is no uuid: 32 hexadecimal digits, dashes allowed`, { value: text });
}

function parseJournal(text: string): { size?: number; block64?: boolean } {
  const out: { size?: number; block64?: boolean } = {};
  for (const item of text.split(',')) {
    if (item.startsWith('size=')) out.size = parseSize(item.slice('size='.length));
    else if (item === 'block64') out.block64 = true;
    else if (item === 'block32') out.block64 = false;
    else throw new UsageError('BAD_OPTION', 'EINVAL', `-J ${text}: "${item}" is no journal option; known are size=SIZE, block32, block64`, { value: item });
  }
  return out;
}

/** Ask, if there is anything to lose. A live cluster volume is refused whatever is answered. */
async function confirm(device: BlockDevice, found: readonly Found[], options: Options): Promise<void> {
  const beating = found.find((one) => one.inUse?.includes('beating'));
  if (beating !== undefined) throw new ClusterError('CLUSTER_ALIVE', `${device.name} holds ${describe(beating)}. Unmount it everywhere first`, { device: device.name });
  if (options.force) return;
  if (found.length === 0 && (await isBlank(device))) return;
  const what = found.length === 0 ? 'data that is not recognised' : found.map(describe).join(', and ');
  if (!process.stdin.isTTY) {
    throw new UsageError('NOT_CONFIRMED', 'EEXIST', `${device.name} (${formatSize(device.size)}) holds ${what}. All of it would be lost; use --force if that is meant`, { device: device.name, found: found.map((one) => one.kind).join(',') });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`${device.name} (${formatSize(device.size)}) holds ${what}.\nAll of it will be lost. Type "yes" to format it: `);
    if (answer.trim().toLowerCase() !== 'yes') throw new UsageError('NOT_CONFIRMED', 'EEXIST', `${device.name} was not formatted`, { device: device.name });
  } finally {
    prompt.close();
  }
}

function describe({ text, label, uuid, inUse }: Found): string {
  const named = [label === undefined ? '' : ` labelled "${label}"`, uuid === undefined ? '' : ` (uuid ${uuid})`].join('');
  return `${text}${named}${inUse === undefined ? '' : `, in use: ${inUse}`}`;
}

/** Nothing but zeros in the first and last MiB: a fresh image, or a wiped LUN. */
async function isBlank(device: BlockDevice): Promise<boolean> {
  const length = Math.min(2 ** 20, device.size);
  const bytes = new Uint8Array(length);
  for (const at of [0, device.size - length]) {
    await device.read(at, bytes);
    if (bytes.some((byte) => byte !== 0)) return false;
  }
  return true;
}

function show(path: string, plan: VolumePlan, found: readonly Found[], options: Options, made: 'made' | undefined): void {
  const { compat, incompat, roCompat } = volumeFeatures(plan.features);
  const features = [...compat, ...incompat, ...roCompat];
  if (options.json) {
    printJson({ device: path, made: made !== undefined, ...plan, features, replaced: found });
    return;
  }
  const stack = plan.local ? 'none: a local volume' : plan.stack ? `${plan.stack.name}, cluster ${plan.stack.cluster}${plan.stack.globalHeartbeat ? ', global heartbeat' : ''}` : 'o2cb (classic)';
  print(facts([
    ['Device', path], ['Now there', found.length > 0 && made === undefined ? found.map(describe).join(', and ') : undefined],
    ['Volume size', `${formatSize(plan.bytes)} (${plan.clusters} clusters, ${plan.blocks} blocks)`], ['Block size', plan.blockSize], ['Cluster size', `${plan.clusterSize} (${formatSize(plan.clusterSize)})`],
    ['Node slots', plan.slots], ['Journals', `${formatSize(plan.journalSize)} each${plan.journal64 ? ', 64-bit' : ''}`], ['Label', plan.label === '' ? undefined : plan.label],
    ['Type', plan.type], ['Cluster stack', stack], ['Features', features.join(' ')], ['Cluster groups', `${plan.clusterGroups} of ${plan.clustersPerGroup} clusters`],
  ]));
  print(made === undefined ? 'Nothing was written.' : 'The volume is made.');
}
