/** lunfsd's control socket: what it answers, and the client the command line uses. */
import type * as net from 'node:net';
import { UsageError } from '@lunfs/device';
import { ControlConnection, connectControl } from '../control-connection.js';
import type { Params } from '../control-protocol.js';
import type { Methods } from '../control-server.js';
import type { VolumeFacts } from '../host-volume.js';
import { daemonPaths } from '../run-directory.js';
import type { ClusterFacts, Lunfsd, Persistence } from './lunfsd.js';
import type { VolumeSpec } from './managed-volume.js';

export const DAEMON_METHODS: Methods<Lunfsd> = {
  status: ({ target }) => target.facts(),
  mount: ({ target, params }) => target.mount(volumeSpec(params), params.oneOf('persistence', ['always', 'boot'])),
  umount: ({ target, params }) => target.umount(params.string('where')),
  forget: ({ target, params }) => target.forget(params.string('where')),
  stop: async ({ target, stop }) => {
    await target.leave();
    stop();
  },
};

function volumeSpec(params: Params): VolumeSpec {
  return {
    device: params.string('device'), logicalBlockSize: params.optionalNumber('logicalBlockSize'),
    mount: { directory: params.string('directory'), allowOther: params.boolean('allowOther'), seal: params.boolean('seal'), options: params.strings('options') },
  };
}

/** Connect to this host's lunfsd. Throws NO_DAEMON. */
export async function connectDaemon(directory?: string): Promise<DaemonClient> {
  const { control } = daemonPaths(directory);
  return new DaemonClient(await connectControl(control, (cause) => new UsageError('NO_DAEMON', 'ENOENT', `lunfsd is not running on this host (nothing listens at ${control}); start it: lunfs up`, { socket: control }, cause)));
}

export class DaemonClient extends ControlConnection {
  constructor(socket: net.Socket) {
    super(socket, () => new UsageError('DAEMON_GONE', 'ESHUTDOWN', 'lunfsd has ended; see its log'));
  }

  status(): Promise<ClusterFacts> {
    return this.call('status');
  }

  /** Mount a volume of the cluster; resolves when it is. */
  mount(spec: VolumeSpec, persistence: Persistence): Promise<VolumeFacts> {
    return this.call('mount', { device: spec.device, logicalBlockSize: spec.logicalBlockSize, persistence, ...spec.mount });
  }

  /** End a volume, mounted or about to be mounted again. `where`: device, directory or UUID. Throws NOT_MOUNTED. */
  umount(where: string): Promise<void> {
    return this.call('umount', { where });
  }

  /** What was unmounted is not to be mounted again. False if that was not declared. */
  forget(where: string): Promise<boolean> {
    return this.call('forget', { where });
  }

  /** Unmount all volumes, leave the cluster, end. */
  async stop(): Promise<void> {
    await this.call('stop');
    await this.ended;
  }
}
