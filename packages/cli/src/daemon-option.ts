/** Which lunfsd a command means: that of this host, or one of several on a machine, by the directory its sockets are in. */
import path from 'node:path';
import { type Command, Option } from 'commander';

export interface DaemonChoice {
  readonly data?: string;
}

export function dataOption(): Option {
  return new Option('--data <dir>', 'directory of the sockets and logs of lunfsd and its volumes, when several run on one machine (same as LUNFS_RUN_DIR)').argParser((given: string) => path.resolve(given));
}

/** All that this command starts or looks for is in the directory, volume processes included. */
export function useData(command: Command): void {
  command.addOption(dataOption()).hook('preAction', (_, acting) => {
    const { data } = acting.opts<DaemonChoice>();
    if (data !== undefined) process.env.LUNFS_RUN_DIR = data;
  });
}
