/** `lunfs df`: how full volumes are. */
import type { Command } from 'commander';
import { RawReader } from '@lunfs/ocfs2';
import { Unsuccessful, examples } from '../command.js';
import { describe, note, print, printJson, table } from '../output.js';
import { formatSize } from '../sizes.js';
import { needDevice } from '../target.js';
import { processFacts, withRawDevice } from '../device-access.js';
import { describeVolume } from '../volume-facts.js';

export function df(program: Command): void {
  program
    .command('df')
    .summary('show how full volumes are')
    .argument('<device...>', 'block devices or image files')
    .option('-B, --bytes', 'sizes in bytes')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs df /dev/mapper/lun*', 'lunfs df --json lun.img'))
    .action(async (texts: string[], options: { bytes?: boolean; json?: boolean }) => {
      const found: object[] = [];
      const rows: string[][] = [];
      const size = (bytes: number) => (options.bytes ? String(bytes) : formatSize(bytes));
      const failures: unknown[] = [];
      for (const device of texts.map(needDevice)) {
        const volume = await withRawDevice('df', device, { beside: true }, async (opened) => describeVolume(await RawReader.open(opened))).catch((error: unknown) => void failures.push(error));
        if (volume === undefined) continue;
        const { label, uuid, space } = volume;
        const mount = (await processFacts(device))?.mount;
        found.push({ device, label, uuid, ...space, mount });
        rows.push([device, label, size(space.bytes), size(space.usedBytes), size(space.freeBytes), `${Math.ceil((100 * space.usedClusters) / space.clusters)}%`, mount ?? '']);
      }
      if (failures.length > 0 && rows.length === 0) throw failures[0];
      if (options.json) printJson(found);
      else print(table(['Device', 'Label', '>Size', '>Used', '>Free', '>Use%', 'Mounted on'], rows));
      for (const error of failures) note('df', describe(error).message);
      if (failures.length > 0) throw new Unsuccessful(1);
    });
}
