/** `lunfs quota report`: repquota's table. */
import type { Command } from 'commander';
import type { QuotaReport } from '@lunfs/host';
import type { QuotaRecord, QuotaType } from '@lunfs/ocfs2';
import { wallSeconds } from '../../clock.js';
import { examples } from '../../command.js';
import { print, printJson, table } from '../../output.js';
import { idNames, withQuota } from '../../quota-access.js';
import { formatDuration, formatSize } from '../../sizes.js';

interface Options {
  user?: boolean;
  group?: boolean;
  numeric?: boolean;
  bytes?: boolean;
  json?: boolean;
}

export function report(group: Command): void {
  group
    .command('report')
    .summary('show what is used and allowed')
    .argument('<where>', 'the device, or the directory it is mounted on')
    .option('-u, --user', 'users only')
    .option('-g, --group', 'groups only')
    .option('-n, --numeric', 'ids instead of names')
    .option('-B, --bytes', 'sizes in bytes')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs quota report /dev/mapper/lun0', 'lunfs quota report -u /mnt'))
    .action(async (where: string, options: Options) => {
      const only: QuotaType | undefined = options.user === options.group ? undefined : options.user ? 'user' : 'group';
      await withQuota('quota report', where, { write: false }, async (quota, device) => {
        const found = await quota.report(only);
        if (options.json) printJson(found.map(({ type, settings, records }) => ({ device, type, ...settings, records: records.map((one) => ({ ...one, name: idNames(type).get(one.id) })) })));
        else print(found.map((one) => show(device, one, options)).join('\n\n'));
      });
    });
}

function show(device: string, { type, settings, records }: QuotaReport, { numeric, bytes }: Options): string {
  const names = numeric ? new Map<number, string>() : idNames(type);
  const now = wallSeconds();
  const size = (value: number) => (bytes ? String(value) : formatSize(value));
  const limit = (value: number) => (value === 0 ? '-' : size(value));
  const rows = records.map((one) => [
    names.get(one.id) ?? String(one.id), marks(one), size(one.space), limit(one.spaceSoft), limit(one.spaceHard), left(one.spaceTime, now),
    String(one.inodes), count(one.inodeSoft), count(one.inodeHard), left(one.inodeTime, now),
  ]);
  const head = [type === 'user' ? 'User' : 'Group', '', '>Space', '>Soft', '>Hard', '>Grace', '>Inodes', '>Soft', '>Hard', '>Grace'];
  return `Quota of ${type}s on ${device}: grace ${formatDuration(settings.spaceGrace)} for space, ${formatDuration(settings.inodeGrace)} for inodes\n\n${table(head, rows)}`;
}

/** repquota's two marks: `+` where a soft limit is passed, of space and of inodes. */
function marks({ space, spaceSoft, inodes, inodeSoft }: QuotaRecord): string {
  return `${spaceSoft > 0 && space > spaceSoft ? '+' : '-'}${inodeSoft > 0 && inodes > inodeSoft ? '+' : '-'}`;
}

function count(limit: number): string {
  return limit === 0 ? '-' : String(limit);
}

/** What is left of a grace period. */
function left(end: number, now: number): string {
  if (end === 0) return '';
  return end > now ? formatDuration(end - now) : 'none';
}
