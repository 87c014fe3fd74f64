/** `lunfs lun check`: whether a LUN, as this host is set up, may carry a volume of a cluster. */
import type { Command } from 'commander';
import { readSettings, timeoutsOf } from '@lunfs/o2cb';
import { type Lun, type SanView, findLun, lunsOf, nameFindings, thisHost, timesFindings, viewOf } from '@lunfs/san';
import { Unsuccessful, examples } from '../../command.js';
import { severityText } from '../../lun-text.js';
import { print, printJson } from '../../output.js';
import { needDevice } from '../../target.js';

interface Options {
  settings?: string;
  json?: boolean;
}

/** Seconds between two checks of a path by multipathd, where it does not run. */
const POLLING_SECONDS = 5;

export function check(group: Command): void {
  group
    .command('check')
    .summary("check a LUN's map, paths, sizes and times against the cluster's timeouts")
    .description("Check whether a LUN may carry a volume of a cluster on this host: its name, its map, the sizes of its paths, and whether map and transport give up before others recover this host (O2CB_HEARTBEAT_THRESHOLD). Exit code 1 when something must be changed, 0 else.")
    .argument('[device]', 'any name of the LUN (default: every LUN with a multipath map)')
    .option('--settings <file>', "the cluster's timeouts (default /etc/default/o2cb or /etc/sysconfig/o2cb)")
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs lun check /dev/mapper/mpatha', 'lunfs lun check --json'))
    .action(async (text: string | undefined, options: Options) => {
      const view = await viewOf(thisHost);
      const { threshold, fenceMs, writeTimeoutMs } = timeoutsOf(readSettings(options.settings === undefined ? undefined : [options.settings]));
      const times = { parkSeconds: fenceMs / 1000, deadSeconds: writeTimeoutMs / 1000 };
      const checked = candidates(view, text).map(({ lun, named }) => ({ device: lun.device, findings: [...named, ...lun.findings, ...timesFindings(lun, times, view.multipathd?.pollingSeconds ?? POLLING_SECONDS)] }));
      if (options.json) printJson({ threshold, ...times, luns: checked });
      else for (const { device, findings } of checked) print(findings.length === 0 ? `${device}: fit for a cluster that recovers a host after ${times.deadSeconds} s without a beat` : findings.map(severityText).join('\n'));
      if (checked.length === 0 && !options.json) print('This host has no multipath maps; name a device.');
      if (checked.some(({ findings }) => findings.some(({ severity }) => severity === 'error'))) throw new Unsuccessful(1);
    });
}

function candidates(view: SanView, text: string | undefined): { lun: Lun; named: ReturnType<typeof nameFindings> }[] {
  if (text === undefined) return lunsOf(view).filter(({ map, findings }) => map !== undefined || findings.some(({ code }) => code === 'MAP_MISSING')).map((lun) => ({ lun, named: [] }));
  const device = needDevice(text);
  const found = findLun(view, device);
  return [{ lun: found.lun, named: nameFindings(device, found) }];
}
