/** `lunfs lun rescan`: this host looks again at how large its LUNs are, and which there are. */
import type { Command } from 'commander';
import { type Rescanned, findLun, lunsOf, rescanLun, scanHosts, thisHost, viewOf } from '@lunfs/san';
import { examples } from '../../command.js';
import { note, print, printJson } from '../../output.js';
import { formatSize, parseNumber } from '../../sizes.js';
import { needDevice } from '../../target.js';

export function rescan(group: Command): void {
  group
    .command('rescan')
    .summary('see the new size of a LUN on every path, or find new LUNs')
    .description('See the new size of a LUN: every path is asked again, all have to agree, then the multipath map takes it over (of a loop device: its file). Nothing is written to any disk, nothing is unmounted. Without a device: look for LUNs that this host does not know yet.')
    .argument('[device]', 'any name of the LUN')
    .option('-t, --timeout <seconds>', 'how long to wait for all paths to agree', parseNumber, 30)
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs lun rescan /dev/mapper/mpatha', 'lunfs lun rescan'))
    .action(async (text: string | undefined, options: { timeout: number; json?: boolean }) => {
      if (text === undefined) await findNew(options.json ?? false);
      else {
        const seen = await rescanDevice('lun rescan', needDevice(text), options.timeout);
        if (options.json) printJson(seen);
        else print(rescanText(seen));
      }
    });
}

/** One LUN, by any of its names; what paths say while they do not agree is told. */
export async function rescanDevice(command: string, device: string, timeoutSeconds = 30): Promise<Rescanned> {
  const { lun } = findLun(await viewOf(thisHost), device);
  let told = false;
  return await rescanLun(thisHost, lun, {
    timeoutMs: timeoutSeconds * 1000,
    waiting: (sizes) => {
      if (!told) note(command, `${lun.device}: waiting until all paths agree (${sizes.map(({ kernelName, size }) => `${kernelName} ${formatSize(size)}`).join(', ')})`);
      told = true;
    },
  });
}

export function rescanText({ device, before, after }: Rescanned): string {
  if (before === after) return `${device}: ${formatSize(after)} (${after} bytes), as before`;
  return `${device}: from ${formatSize(before)} to ${formatSize(after)} (${before} to ${after} bytes)`;
}

async function findNew(json: boolean): Promise<void> {
  const before = new Set(lunsOf(await viewOf(thisHost)).map(({ number }) => number));
  const hosts = await scanHosts(thisHost);
  const found = lunsOf(await viewOf(thisHost)).filter(({ number }) => !before.has(number));
  if (json) printJson({ hosts, found });
  else print([`${hosts.length} SCSI host${hosts.length === 1 ? '' : 's'} asked, ${found.length} new LUN${found.length === 1 ? '' : 's'}`, ...found.map(({ device, size }) => `${device}: ${formatSize(size)}`)].join('\n'));
}
