/** `lunfs disk export`, also `lunfs export`: a disk by NBD, with or without a mount. */
import type { Command } from 'commander';
import { LunfsError, UsageError } from '@lunfs/device';
import { type ExportFacts, type ExportSpec, connectVolumeProcess, normalPath, startVolumeProcess } from '@lunfs/host';
import { examples } from '../../command.js';
import { showUse, useOf } from '../../disk-access.js';
import { facts, note, print, printJson } from '../../output.js';
import { formatSize } from '../../sizes.js';
import { needTarget } from '../../target.js';
import { explainBusy } from '../../device-access.js';
import { stay } from '../mount.js';

interface Options {
  name?: string;
  socket?: string;
  tcp?: { host: string; port: number };
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
  readOnly?: boolean;
  keepSpace?: boolean;
  incoming?: boolean;
  offline?: boolean;
  foreground?: boolean;
  json?: boolean;
}

export function exportDisk(group: Command): void {
  group
    .command('export')
    .summary('serve a disk by NBD')
    .description('Serve a disk by NBD: through the process that has the volume mounted or exports other disks of it, else by a new one in the background. It ends with "lunfs disk unexport" or "lunfs umount DEVICE".')
    .argument('<target>', 'DEVICE:/name.raw')
    .option('--name <name>', 'what clients ask for (default: the file\'s name)')
    .option('--socket <path>', 'Unix socket to listen on (default: one in the run directory)')
    .option('--tcp <host:port>', 'listen on TCP instead; without TLS anybody who can connect reads and writes the disk', parseAddress)
    .option('--tls-cert <file>', 'PEM certificate: TLS is then required of clients')
    .option('--tls-key <file>', 'its key')
    .option('--tls-ca <file>', 'PEM certificates that clients must be signed by')
    .option('-r, --read-only', 'let nobody write')
    .option('--keep-space', 'TRIM and WRITE_ZEROES keep the space: a thick disk stays thick')
    .option('--incoming', 'for a guest that moves here from the host that has offered the disk (lunfs disk handover): writes wait until that host has switched')
    .option('--offline', 'write to a volume of a cluster that nobody has mounted')
    .option('-f, --foreground', 'stay, until Ctrl-C')
    .option('--json', 'print as JSON')
    .addHelpText('after', examples('lunfs disk export /dev/mapper/lun0:/vm1.raw', 'lunfs disk export --tcp 10.0.0.5:10809 --tls-cert cert.pem --tls-key key.pem lun.img:/vm1.raw'))
    .action(async (text: string, options: Options) => {
      const { device, path } = needTarget(text);
      const spec = exportSpec(path, options);
      const running = await runningProcess(device);
      if (running !== undefined) {
        try {
          if (options.foreground) throw new UsageError('BAD_OPTION', 'EINVAL', `${device} has its process already, the export would be served by that: leave --foreground out`, {});
          show(device, path, await running.addExport(spec), options);
        } finally {
          running.close();
        }
        return;
      }
      const started = await startVolumeProcess({ device, readOnly: options.readOnly, offline: options.offline, foreground: options.foreground, exports: [spec] }).catch((error: unknown) => explainBusy(device, error));
      const { slots, blocks } = started.facts.recovery;
      if (slots.length > 0) note('disk export', `${device}: recovered the journal of slot ${slots.join(', ')} (${blocks} blocks)`);
      show(device, path, started.facts.exports[0], options);
      if (options.foreground) await stay(started);
    });
}

async function runningProcess(device: string): Promise<Awaited<ReturnType<typeof connectVolumeProcess>> | undefined> {
  try {
    return await connectVolumeProcess(device);
  } catch (error) {
    if (error instanceof LunfsError && error.code === 'NO_VOLUME_PROCESS') return undefined;
    throw error;
  }
}

function exportSpec(path: string, { name, socket, tcp, tlsCert, tlsKey, tlsCa, readOnly, keepSpace, incoming }: Options): ExportSpec {
  if (socket !== undefined && tcp !== undefined) throw new UsageError('BAD_OPTION', 'EINVAL', 'an export listens on --socket or --tcp, not on both', {});
  if ((tlsCert === undefined) !== (tlsKey === undefined)) throw new UsageError('BAD_OPTION', 'EINVAL', '--tls-cert and --tls-key go together', {});
  if (tlsCa !== undefined && tlsCert === undefined) throw new UsageError('BAD_OPTION', 'EINVAL', '--tls-ca needs --tls-cert and --tls-key', {});
  const tls = tlsCert === undefined || tlsKey === undefined ? undefined : { cert: tlsCert, key: tlsKey, ca: tlsCa, clientCertificates: tlsCa === undefined ? ('none' as const) : ('required' as const) };
  return { path, name, socket, tcp, tls, readOnly, keepSpace, incoming };
}

/** `host:port`, `[v6]:port` or `:port` (this host alone). */
function parseAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) throw new UsageError('BAD_ADDRESS', 'EINVAL', `"${text}" is no address; write HOST:PORT, such as 10.0.0.5:10809`, { value: text });
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port };
}

function show(device: string, path: string, exported: ExportFacts, options: Options): void {
  const use = useOf(device, path, { exports: [exported] });
  if (options.json) {
    printJson({ ...exported, ...use });
    return;
  }
  print(`${facts([['Disk', `${device}:${normalPath(path)}`], ['Size', formatSize(exported.size)], ['NBD', exported.uri], ['Access', exported.readOnly ? 'read-only' : exported.state === 'incoming' ? 'read; writes wait for the other host' : 'read and write']])}\n\n${showUse(use)}`);
  if (exported.tcp !== undefined && !exported.uri.startsWith('nbds')) note('disk export', `without TLS: whoever reaches ${exported.tcp.host}:${exported.tcp.port} reads${exported.readOnly ? '' : ' and writes'} the disk`);
}
