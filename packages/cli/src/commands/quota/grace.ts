/** `lunfs quota grace`: how long soft limits may be passed. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import type { QuotaSettings, QuotaType } from '@lunfs/ocfs2';
import { examples } from '../../command.js';
import { print, printJson } from '../../output.js';
import { named, withQuota } from '../../quota-access.js';
import { formatDuration, parseNumber } from '../../sizes.js';

interface Options {
  user?: boolean;
  group?: boolean;
  block?: number;
  inode?: number;
  sync?: number;
  offline?: boolean;
  json?: boolean;
}

const UNITS: Record<string, number> = { '': 1, 's': 1, 'm': 60, 'h': 3600, 'd': 86_400, 'w': 604_800 };

/** `7d`, `12h`, `90m`, `3600` in seconds. Throws BAD_TIME. */
function parseDuration(text: string): number {
  const match = /^(\d+)([smhdw]?)$/.exec(text);
  const seconds = match ? Number(match[1]) * UNITS[match[2]] : Number.NaN;
  if (Number.isSafeInteger(seconds)) return seconds;
  throw new UsageError('BAD_TIME', 'EINVAL', `"${text}" is no time; write seconds, or a number with m, h, d or w, such as 7d`, { value: text });
}

export function grace(group: Command): void {
  group
    .command('grace')
    .summary('set grace periods of soft limits')
    .description('Set how long soft limits may be passed; what is not named stays. Periods that run already end when they would have.')
    .argument('<where>', 'the device, or the directory it is mounted on')
    .option('-u, --user', 'of users (default: of users and groups)')
    .option('-g, --group', 'of groups')
    .option('--block <time>', 'for space: seconds, or with m, h, d, w', parseDuration)
    .option('--inode <time>', 'for inodes', parseDuration)
    .option('--sync <ms>', 'milliseconds after which a node tells the others what was used on it', parseNumber)
    .option('--offline', 'a volume of a cluster that nobody has mounted')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs quota grace /dev/mapper/lun0 --block 7d --inode 7d', 'lunfs quota grace -g /mnt --block 12h'))
    .action(async (where: string, options: Options) => {
      const settings = named<QuotaSettings>({ spaceGrace: options.block, inodeGrace: options.inode, syncMs: options.sync }, 'name what to set: --block, --inode or --sync');
      await withQuota('quota grace', where, { write: true, offline: options.offline }, async (quota) => {
        const wanted: QuotaType[] = options.user === options.group ? (await quota.report()).map(({ type }) => type) : [options.user ? 'user' : 'group'];
        const done: (QuotaSettings & { type: QuotaType })[] = [];
        for (const type of wanted) done.push({ type, ...(await quota.setSettings(type, settings)) });
        if (options.json) printJson(done);
        else print(done.map(({ type, spaceGrace, inodeGrace, syncMs }) => `${type}s: ${formatDuration(spaceGrace)} for space, ${formatDuration(inodeGrace)} for inodes, told every ${syncMs} ms`).join('\n'));
      });
    });
}
