/** Starting lunfsd: `lunfs up` in the background, the command `lunfsd` in the foreground. */
import path from 'node:path';
import { type StartedProgram, startProgram } from '../child-process.js';
import { daemonPaths, runDirectory } from '../run-directory.js';
import type { ClusterFacts } from './lunfsd.js';
import type { DaemonOptions } from './options.js';

/** Resolves when it can mount volumes; rejects with what keeps it from it. */
export async function startDaemon(options: DaemonOptions, foreground = false): Promise<StartedProgram<ClusterFacts>> {
  const { config, settings, watchdog } = options;
  const data = path.resolve(options.data ?? runDirectory());
  return startProgram<ClusterFacts>({
    main: new URL('./main.js', import.meta.url), options: { ...options, data, config: config && path.resolve(config), settings: settings && path.resolve(settings), watchdog: watchdog && path.resolve(watchdog) },
    what: 'lunfsd', died: 'DAEMON_DIED', foreground, log: daemonPaths(data).log,
  });
}
