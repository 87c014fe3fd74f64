/** `lunfs disk handover`. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { connectVolumeProcess } from '@lunfs/host';
import { examples } from '../../command.js';
import { print, printJson } from '../../output.js';
import { needTarget } from '../../target.js';

interface Options {
  to?: string;
  switch?: boolean;
  cancel?: boolean;
  takeBack?: boolean;
  json?: boolean;
}

export function handover(group: Command): void {
  group
    .command('handover')
    .summary('let a disk go to another host, with its guest')
    .description('Let another host have a disk that this one exports, for a guest that moves: offer it here (--to), open it there (lunfs disk export --incoming), stop the guest here, then switch (--switch). Until the switch the disk is this host\'s.')
    .argument('<target>', 'DEVICE:/name.raw')
    .option('--to <host>', 'offer it to this host, by its name in cluster.conf')
    .option('--cancel', 'take the offer back')
    .option('--switch', 'the guest has stopped here: give the disk to the other host')
    .option('--take-back', 'after a switch, if the guest did not come to run there: have it again')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk handover /dev/mapper/lun0:/vm1.raw --to host2', 'lunfs disk handover /dev/mapper/lun0:/vm1.raw --switch'))
    .action(async (text: string, options: Options) => {
      const { device, path } = needTarget(text);
      if ([options.to, options.cancel, options.switch, options.takeBack].filter((one) => one !== undefined).length !== 1) {
        throw new UsageError('BAD_OPTION', 'EINVAL', 'one of --to HOST, --cancel, --switch and --take-back', {});
      }
      const control = await connectVolumeProcess(device);
      try {
        let epoch: number | undefined;
        if (options.to !== undefined) await control.offerLease(path, options.to);
        else if (options.cancel) await control.withdrawLease(path);
        else epoch = await (options.switch ? control.switchLease(path) : control.takeBackLease(path));
        if (options.json) printJson({ device, path, epoch });
        else print(options.to !== undefined ? `${device}:${path} is offered to ${options.to}; there: lunfs disk export --incoming` : options.cancel ? `${device}:${path} stays here` : options.switch ? `${device}:${path} is the other host's, with epoch ${epoch}` : `${device}:${path} is this host's again, with epoch ${epoch}`);
      } finally {
        control.close();
      }
    });
}
