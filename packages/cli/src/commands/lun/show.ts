/** `lunfs lun show`: all that is known of one LUN. */
import type { Command } from 'commander';
import { type LunReport, reportLuns } from '@lunfs/host';
import { findLun, nameFindings, thisHost, viewOf } from '@lunfs/san';
import { examples } from '../../command.js';
import { contentText, pathRow, queueingText, severityText, useText, vendorText } from '../../lun-text.js';
import { facts, print, printJson, table } from '../../output.js';
import { formatSize } from '../../sizes.js';
import { needDevice } from '../../target.js';

export function show(group: Command): void {
  group
    .command('show')
    .summary('show a LUN: who it is, its paths, its map, what is on it, who uses it')
    .argument('<device>', 'any name of the LUN, of one of its paths, or of a partition')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs lun show /dev/mapper/mpatha', 'lunfs lun show --json /dev/sdc'))
    .action(async (text: string, options: { json?: boolean }) => {
      const device = needDevice(text);
      const found = findLun(await viewOf(thisHost), device);
      const [report] = await reportLuns([found.lun]);
      const findings = [...nameFindings(device, found), ...report.findings];
      if (options.json) printJson({ ...report, findings });
      else print(describe({ ...report, findings }));
    });
}

function describe(lun: LunReport): string {
  const { map, content } = lun;
  const volume = content.volume;
  const cluster = volume?.stack === undefined ? undefined : volume.stack === 'local' ? 'none: a local volume' : `${volume.stack}${volume.cluster === undefined ? '' : `, cluster ${volume.cluster}`}`;
  const head = facts([
    ['Device', lun.device], ['WWID', lun.wwid], ['Vendor and model', vendorText(lun)], ['File behind it', lun.backingFile], ['Revision', lun.revision], ['Serial', lun.serial], ['Size', `${formatSize(lun.size)} (${lun.size} bytes, blocks of ${lun.logicalBlockSize})`],
    ['Writable', lun.readOnly ? 'no' : 'yes'],
    ['Multipath map', map && `${map.name} (${map.kernelName})${map.suspended ? ', suspended' : ''}`], ['Path selection', map?.policy?.selectors.join(', ')], ['Queues without a path', map && queueingText(map)], ['Features of the map', map?.policy?.features],
    ['Holds', contentText(content)], ['Why not known', content.unknown], ['Volume UUID', volume?.uuid], ['Node slots', volume?.slots], ['Cluster stack', cluster], ['Volume in use', volume?.inUse],
    ['Used by', useText(lun)],
  ]);
  const paths = lun.paths.length === 0 ? [] : ['', table(['Path', 'HCTL', 'By', 'State', 'Checked', '>Group', '>Size', 'Times', 'Target'], lun.paths.map(pathRow))];
  const parts = lun.partitions.length === 0 ? [] : ['', table(['Partition', '>Size', 'Holds'], lun.partitions.map(({ device, size }, i) => [device, formatSize(size), contentText(lun.partitionContent[i])]))];
  const findings = lun.findings.length === 0 ? [] : ['', ...lun.findings.map(severityText)];
  return [head, ...paths, ...parts, ...findings].join('\n');
}
