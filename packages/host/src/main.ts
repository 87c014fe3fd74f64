/**
 * The volume process: one volume, its mount and its exports (docs/design.md, section 2). Started by `startVolumeProcess`
 * (volume-process.ts), which gives it its options as one JSON argument and, as descriptor 3, a pipe on which it says how its start went.
 *
 * It lives as long as the volume has a mount or an export, and ends cleanly on SIGTERM, SIGINT, a `stop` on its control socket,
 * umount, or the removal of the last export. An umount while exports are in use ends the mount alone: no guest loses its disk by it.
 */
import { reportStart } from './child-process.js';
import { ClusterSide } from './cluster/cluster-side.js';
import { ControlServer } from './control-server.js';
import { type WireError, toWire } from './control-protocol.js';
import { HostVolume } from './host-volume.js';
import { processPaths } from './run-directory.js';
import { VOLUME_METHODS } from './volume-methods.js';
import { type ProcessOptions, exitCodeOf } from './volume-process.js';

function log(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function start(options: ProcessOptions, end: { readonly asked: Promise<void>; readonly ask: () => void }): Promise<number> {
  const cluster = options.cluster && new ClusterSide(options.cluster);
  const host = await HostVolume.open({ ...options, cluster, log });
  let control: ControlServer | undefined;
  let failure: WireError | undefined;
  let started = false;
  try {
    const endIfUnused = (): void => {
      if (started && host.mounted === undefined && host.exportCount === 0) end.ask();
    };
    control = await ControlServer.listen(processPaths(options.device).control, { methods: VOLUME_METHODS, target: host, stop: end.ask, afterwards: endIfUnused });
    if (options.mount !== undefined) {
      const { trace, ...spec } = options.mount;
      const mount = await host.mount({ ...spec, trace: trace ? (line) => process.stdout.write(`${line}\n`) : undefined });
      void mount.closed.then(() => {
        if (host.exportCount > 0) log(`${spec.directory} is unmounted; ${host.exportCount} export(s) go on`);
        // After host-volume's own listener, which takes note that the mount has gone.
        setImmediate(endIfUnused);
      });
    }
    for (const spec of options.exports ?? []) await host.addExport(spec);
    await host.restoreExports(options.restored ?? []);
    started = true;
    reportStart({ ready: host.facts() });
    endIfUnused();
    await end.asked;
  } catch (error) {
    failure = toWire(error);
    if (!started) reportStart({ failure: error });
    log(`${failure.code}: ${failure.message}`);
  }
  try {
    await host.close();
  } finally {
    control?.close();
  }
  return failure === undefined ? 0 : exitCodeOf(failure);
}

async function main(): Promise<number> {
  const options = JSON.parse(process.argv[2]) as ProcessOptions;
  process.title = `lunfs ${options.device}`;
  let ask!: () => void;
  const asked = new Promise<void>((resolve) => {
    ask = resolve;
  });
  process.on('SIGTERM', ask);
  process.on('SIGINT', ask);
  // A terminal that goes away takes no volume with it.
  process.on('SIGHUP', () => undefined);
  try {
    return await start(options, { asked, ask });
  } catch (error) {
    const failure = toWire(error);
    reportStart({ failure: error });
    log(`${failure.code}: ${failure.message}`);
    return exitCodeOf(failure);
  }
}

process.exit(await main());
