/** The program lunfsd. Started by `startDaemon` (start-daemon.ts) with its options as one JSON argument, and by the command `lunfsd`. */
import { reportStart } from '../child-process.js';
import { timestamp } from '../clock.js';
import { ControlServer } from '../control-server.js';
import { toWire } from '../control-protocol.js';
import { daemonPaths } from '../run-directory.js';
import { exitCodeOf } from '../volume-process.js';
import { DAEMON_METHODS } from './api.js';
import { Lunfsd } from './lunfsd.js';
import type { DaemonOptions } from './options.js';
import { ServiceManager } from './service.js';

async function main(): Promise<number> {
  const options = JSON.parse(process.argv[2]) as DaemonOptions;
  process.title = `lunfsd ${options.node ?? ''}`.trimEnd();
  let stop!: () => void;
  const asked = new Promise<void>((resolve) => {
    stop = resolve;
  });
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', () => undefined);
  const log = (line: string): void => void process.stderr.write(`${timestamp()} ${line}\n`);
  const service = ServiceManager.of(process.env, log);
  try {
    const daemon = await Lunfsd.start({ ...options, log });
    const control = await ControlServer.listen(daemonPaths(options.data).control, { methods: DAEMON_METHODS, target: daemon, stop });
    reportStart({ ready: daemon.facts() });
    void daemon.restored.then(() => service?.ready(() => daemon.facts().volumes));
    await asked;
    service?.stopping();
    await daemon.leave();
    control.close();
    return 0;
  } catch (error) {
    reportStart({ failure: error });
    const failure = toWire(error);
    log(`${failure.code}: ${failure.message}`);
    return exitCodeOf(failure);
  }
}

process.exit(await main());
