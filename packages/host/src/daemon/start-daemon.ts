/** Starting lunfsd: `lunfs up` in the background, the command `lunfsd` in the foreground. */
import path from 'node:path';
import { type StartedProgram, startProgram } from '../child-process.js';
import { daemonPaths, runDirectory } from '../run-directory.js';
import { stateDirectory } from './declared.js';
import type { ClusterFacts } from './lunfsd.js';
import type { DaemonOptions } from './options.js';

/** Resolves when it can mount volumes; rejects with what keeps it from it. */
export async function startDaemon(options: DaemonOptions, foreground = false): Promise<StartedProgram<ClusterFacts>> {
  const { config, settings, watchdog } = options;
  const state = stateDirectory(options.stateDirectory, options.data === undefined ? process.env : { ...process.env, LUNFS_RUN_DIR: options.data });
  const data = path.resolve(options.data ?? runDirectory());
  return startProgram<ClusterFacts>({
    main: new URL('./main.js', import.meta.url), options: { ...options, data, stateDirectory: state, config: config && path.resolve(config), settings: settings && path.resolve(settings), watchdog: watchdog && path.resolve(watchdog) },
    what: 'lunfsd', died: 'DAEMON_DIED', foreground, log: daemonPaths(data).log,
  });
}
