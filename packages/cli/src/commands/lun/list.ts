/** `lunfs lun list`: one line for each LUN. */
import type { Command } from 'commander';
import { type LunReport, reportLuns } from '@lunfs/host';
import { lunsOf, thisHost, viewOf } from '@lunfs/san';
import { examples } from '../../command.js';
import { holds, pathsText, severityText, useText, vendorText } from '../../lun-text.js';
import { print, printJson, table } from '../../output.js';
import { formatSize } from '../../sizes.js';

export function list(group: Command): void {
  group
    .command('list')
    .alias('ls')
    .summary('list the LUNs and disks of this host')
    .description('List the LUNs and disks of this host: each once, by the name to use it by. PATHS are those that work, of all.')
    .option('--json', 'print as JSON, with all that "lun show" tells')
    .addHelpText('after', examples('lunfs lun list', 'lunfs lun list --json'))
    .action(async (options: { json?: boolean }) => {
      const luns = await reportLuns(lunsOf(await viewOf(thisHost)));
      if (options.json) printJson({ luns });
      else print(luns.length === 0 ? 'This host has no LUNs and no disks.' : [table(['Device', '>Size', 'WWID', 'Vendor and model', '>Paths', 'Holds', 'Used by'], luns.map(row)), ...problems(luns)].join('\n'));
    });
}

function row(lun: LunReport): string[] {
  return [lun.device, formatSize(lun.size), lun.wwid ?? '-', vendorText(lun), pathsText(lun), holds(lun), useText(lun)];
}

function problems(luns: readonly LunReport[]): string[] {
  const lines = luns.flatMap(({ findings }) => findings.map(severityText));
  return lines.length === 0 ? [] : ['', ...lines];
}
