/** `lunfs disk lease`. */
import type { Command } from 'commander';
import type { LeaseFacts } from '@lunfs/host';
import { examples } from '../../command.js';
import { withDisks } from '../../disk-access.js';
import { facts, print, printJson } from '../../output.js';
import { formatTime } from '../../sizes.js';
import { needTarget } from '../../target.js';

/** What a state means, in a word. */
const MEANING: Readonly<Record<LeaseFacts['state'], string>> = {
  held: 'held: this host may write the disk', incoming: 'incoming: this host may write the disk, and has offered it to another', switched: 'switched: given to this host, which does not write yet', released: 'released: no host writes the disk',
};

export function lease(group: Command): void {
  group
    .command('lease')
    .summary('show which host may write a disk')
    .description('Show the lease of a disk: which host of the cluster may write it, since when, and its epoch, which grows whenever that right goes to somebody. It lies on the volume. A host that died is shown until another one takes the disk.')
    .argument('<target>', 'DEVICE:/name.raw')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk lease /dev/mapper/lun0:/vm1.raw'))
    .action(async (text: string, options: { json?: boolean }) => {
      const { device, path } = needTarget(text);
      await withDisks('disk lease', device, { write: false }, async (disks) => {
        const found = await disks.lease(path);
        if (options.json) printJson({ device, path, lease: found ?? null });
        else if (found === undefined) print(`${device}:${path} has never been exported for writing: it has no lease`);
        else {
          print(facts([
            ['Disk', `${device}:${path}`], ['State', MEANING[found.state]], ['Host', leaseHost(found)], ['Since', formatTime(found.since)], ['Epoch', found.epoch],
            ['Other node', found.otherNode], ['Incarnation', found.incarnation],
          ]));
        }
      });
    });
}

/** The host of a lease with its node number. */
function leaseHost({ host, node }: LeaseFacts): string {
  return node === undefined ? host : `${host} (node ${node})`;
}

/** Who may write a disk, in a column of a list. */
export function holderOf(found: LeaseFacts | undefined): string {
  return found === undefined || found.state === 'released' ? '' : found.host;
}
