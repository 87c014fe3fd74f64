/** `lunfs check`: is everything on the volume what it should be? Reads only; findings carry fsck.ocfs2's code names. */
import type { Command } from 'commander';
import { type CheckReport, type Finding, checkVolume, withJournals } from '@lunfs/ocfs2/check';
import { FSCK, Unsuccessful, backupSuperOption, examples } from '../command.js';
import { note, print, printJson } from '../output.js';
import { Progress } from '../progress.js';
import { needDevice } from '../target.js';
import { type SuperChoice, withRawDevice } from '../device-access.js';

interface Options extends SuperChoice {
  json?: boolean;
  quiet?: boolean;
  replay: boolean;
}

export function check(program: Command): void {
  program
    .command('check')
    .summary('verify a volume, without changing it')
    .description('Verify a volume nobody writes to, without changing it. Exit code as fsck(8): 0 clean, 4 errors found, 8 it could not be checked, 16 wrong usage.')
    .argument('<device>', 'block device or image file')
    .option('--no-replay', 'check what is on the disk, not what replaying the journals would make of it')
    .option('-q, --quiet', 'no progress, and no summary when clean')
    .option('--json', 'print as JSON')
    .addOption(backupSuperOption())
    .addHelpText('after', examples('lunfs check /dev/mapper/lun0', 'lunfs check --json lun.img'))
    .action(async (text: string, options: Options) => {
      const device = needDevice(text);
      const { report, slots } = await withRawDevice('check', device, { beside: false, backupSuper: options.backupSuper }, (opened) => verify(opened, options));
      if (options.json) printJson({ device, clean: report.clean, replayedSlots: slots, counts: report.counts, findings: report.findings });
      else show(device, report, options);
      if (!report.clean) throw new Unsuccessful(FSCK.errorsLeft);
    });
}

async function verify(device: Parameters<typeof checkVolume>[0], options: Options): Promise<{ report: CheckReport; slots: readonly number[] }> {
  const view = options.replay ? await withJournals(device) : { device, slots: [] };
  if (view.slots.length > 0 && !options.quiet) note('check', `the journal of slot ${view.slots.join(', ')} was not closed: checked is what replaying it makes of the volume`);
  const progress = new Progress('check', 'items', options.quiet);
  try {
    return { report: await checkVolume(view.device, { progress: ({ pass, done, total }) => progress.tell(pass, done, total) }), slots: view.slots };
  } finally {
    progress.end();
  }
}

function show(device: string, { findings, clean, counts }: CheckReport, options: Options): void {
  for (const one of findings) print(line(one));
  if (clean && options.quiet) return;
  const used = `${counts.inodes} inodes, ${counts.directories} directories, ${counts.usedClusters} of ${counts.totalClusters} clusters in use`;
  const by = (severity: Finding['severity']) => findings.filter((one) => one.severity === severity).length;
  const recovery = by('recovery') > 0 ? ' (what is left for recovery is no error: the next mount does it)' : '';
  print(clean ? `${device}: clean${recovery}; ${used}` : `${device}: ${by('error')} errors, ${by('leak')} leaks; ${used}. Repair it with fsck.ocfs2`);
}

function line({ code, severity, message, block }: Finding): string {
  return `[${code}] ${severity}: ${message}${block === undefined || message.includes(String(block)) ? '' : ` (block ${block})`}`;
}
