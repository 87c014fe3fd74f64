/** What the commands of `lunfs o2cb` share: which file, and what is said of a change. */
import * as fs from 'node:fs';
import type { Command } from 'commander';
import { ClusterConf, type ClusterConfig, changeClusterConf, readClusterConf } from '@lunfs/o2cb';
import { note, printJson } from '../../output.js';

interface Common {
  readonly configFile: string;
  readonly json?: boolean;
}

/** Changes the file. With --json the cluster as it is now is printed; else nothing is, as o2cb(8) does it. */
export function change(command: Command, cluster: string, how: (conf: ClusterConf) => ClusterConf): void {
  const { configFile, json } = command.optsWithGlobals<Common>();
  const conf = changeClusterConf(configFile, how);
  if (json) printJson(conf.clusters.find(({ name }) => name === cluster) ?? { name: cluster, removed: true });
  else note(`o2cb ${command.name()}`, `${configFile} is changed; copy it to the other nodes`);
}

/** The file's clusters; none if there is no file, as o2cb(8) takes it. */
export function configured(command: Command): ClusterConf {
  const { configFile } = command.optsWithGlobals<Common>();
  return fs.existsSync(configFile) ? readClusterConf(configFile) : ClusterConf.parse('', configFile);
}

export type { ClusterConfig };
