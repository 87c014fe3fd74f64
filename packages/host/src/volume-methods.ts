/** What a volume process does on its control socket: each method is one entry of a table. */
import { QUOTA_TYPES } from '@lunfs/ocfs2';
import type { Params } from './control-protocol.js';
import type { Methods } from './control-server.js';
import { diskExtents, leaseOf, listDisks } from './disks.js';
import type { ExportSpec, HostVolume } from './host-volume.js';
import { volumeQuota } from './quota.js';

export const VOLUME_METHODS: Methods<HostVolume> = {
  status: ({ target: host }) => host.facts(),
  export: ({ target: host, params }) => host.addExport(exportSpec(params)),
  unexport: ({ target: host, params }) => host.removeExport(params.string('name')),
  domain: ({ target }) => target.member.facts(),
  locks: ({ target, params }) => target.member.locks({ limit: params.optionalNumber('limit'), busy: params.boolean('busy') }),
  sync: ({ target: host }) => host.volume.sync(),
  grow: ({ target: host, params, progress }) => host.volume.grow({ size: params.optionalNumber('size'), progress }),
  'grow.plan': ({ target: host, params }) => host.volume.planGrowth({ size: params.optionalNumber('size') }),
  trim: ({ target: host, params, progress }) => host.volume.trim({ offset: params.optionalNumber('offset'), length: params.optionalNumber('length'), minimum: params.optionalNumber('minimum'), progress }),
  stop: ({ stop }) => stop(),
  'disk.create': ({ target: host, params, progress }) => host.createDisk(params.string('path'), {
    size: params.number('size'), allocation: params.oneOf('allocation', ['thin', 'thick-zeroed', 'thick-unwritten']), progress,
  }),
  'disk.clone': ({ target: host, params }) => host.cloneDisk(params.string('source'), params.string('path')),
  'disk.list': ({ target: host, params }) => listDisks(host.volume, params.optionalString('directory'), params.boolean('all')),
  'disk.info': ({ target: host, params }) => diskExtents(host.volume, params.string('path')),
  'disk.lease': ({ target: host, params }) => leaseOf(host.volume, params.string('path')),
  'lease.offer': ({ target: host, params }) => host.offerLease(params.string('path'), params.string('host')),
  'lease.withdraw': ({ target: host, params }) => host.withdrawLease(params.string('path')),
  'lease.switch': ({ target: host, params }) => host.switchLease(params.string('path')),
  'lease.takeBack': ({ target: host, params }) => host.takeBackLease(params.string('path')),
  'disk.resize': ({ target: host, params }) => host.resizeDisk(params.string('path'), params.number('size'), { shrink: params.boolean('shrink') }),
  'disk.remove': ({ target: host, params }) => host.removeDisk(params.string('path')),
  'quota.report': ({ target: host, params }) => volumeQuota(host.volume).report(params.optionalString('type') === undefined ? undefined : params.oneOf('type', QUOTA_TYPES)),
  'quota.set': ({ target: host, params }) => volumeQuota(host.volume).setLimits(params.oneOf('type', QUOTA_TYPES), params.number('id'), numbers(params.object('limits'), ['spaceSoft', 'spaceHard', 'inodeSoft', 'inodeHard'])),
  'quota.grace': ({ target: host, params }) => volumeQuota(host.volume).setSettings(params.oneOf('type', QUOTA_TYPES), numbers(params.object('settings'), ['spaceGrace', 'inodeGrace', 'syncMs'])),
};

/** The numbers of an object that are given. */
function numbers<K extends string>(params: Params | undefined, names: readonly K[]): Partial<Record<K, number>> {
  const given: Partial<Record<K, number>> = {};
  for (const name of names) {
    const value = params?.optionalNumber(name);
    if (value !== undefined) given[name] = value;
  }
  return given;
}

const CLIENT_CERTIFICATES = ['none', 'optional', 'required'] as const;

function exportSpec(params: Params): ExportSpec {
  const tcp = params.object('tcp');
  const tls = params.object('tls');
  return {
    path: params.string('path'), name: params.optionalString('name'), socket: params.optionalString('socket'), readOnly: params.boolean('readOnly'), keepSpace: params.boolean('keepSpace'), incoming: params.boolean('incoming'),
    tcp: tcp && { host: tcp.string('host'), port: tcp.number('port') },
    tls: tls && {
      cert: tls.string('cert'), key: tls.string('key'), ca: tls.optionalString('ca'),
      clientCertificates: tls.optionalString('clientCertificates') === undefined ? undefined : tls.oneOf('clientCertificates', CLIENT_CERTIFICATES),
    },
  };
}
