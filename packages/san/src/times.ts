/**
 * Whether a LUN gives up soon enough for its cluster. A node that cannot beat is taken for dead after `deadSeconds` (o2cb: (T - 1) × 2 s), and others
 * recover what it had. A request that still waits then, in a multipath map or in the kernel's transport, may reach the disk afterwards and
 * overwrite what they wrote: neither our I/O fence nor a kernel node's reset of itself takes it back before it is sent (docs/fencing.md, "What remains").
 * And a path that fails late costs beats although others work. Everything is compared with the moments that follow from the o2cb settings.
 */
import { type Finding, error, warning } from './findings.js';
import type { Lun, LunPath } from './luns.js';

/** Seconds, counted from the last good beat. */
export interface ClusterTimes {
  /** I/O is parked: guests stand still. */
  readonly parkSeconds: number;
  /** Others may begin to recover this node. */
  readonly deadSeconds: number;
}

export function timesFindings(lun: Lun, { parkSeconds, deadSeconds }: ClusterTimes, pollingSeconds: number): Finding[] {
  return [...queueFindings(lun, deadSeconds, pollingSeconds), ...lun.paths.flatMap((one) => pathFindings(lun, one, parkSeconds, deadSeconds))];
}

function queueFindings({ device, map }: Lun, deadSeconds: number, pollingSeconds: number): Finding[] {
  const queueing = map?.policy?.queueing;
  if (map === undefined || queueing === undefined || queueing.kind === 'fail') return [];
  const remedy = `In multipath.conf set no_path_retry to "fail", or to a number of checks that is less than ${deadSeconds} s (one every ${pollingSeconds} s: ${most(deadSeconds, pollingSeconds)} at most), and take queue_if_no_path out of "features"; then: multipathd reconfigure`;
  if (queueing.kind === 'forever') {
    return [error('QUEUES_FOREVER', `${device} keeps requests for ever while it has no path (queue_if_no_path, no_path_retry queue): those of a host that others have recovered after ${deadSeconds} s without a beat would be written when a path comes back, over what others wrote meanwhile. ${remedy}`)];
  }
  const seconds = queueing.checks * pollingSeconds;
  if (seconds < deadSeconds) return [];
  return [error('QUEUES_TOO_LONG', `${device} keeps requests for ${seconds} s while it has no path (no_path_retry ${queueing.checks}, a check every ${pollingSeconds} s), and others may recover this host after ${deadSeconds} s without a beat: what waits would be written over what they wrote. ${remedy}, or raise O2CB_HEARTBEAT_THRESHOLD on all nodes`)];
}

function most(deadSeconds: number, pollingSeconds: number): number {
  return Math.max(0, Math.ceil(deadSeconds / pollingSeconds) - 1);
}

function pathFindings(lun: Lun, { kernelName, times, hctl }: LunPath, parkSeconds: number, deadSeconds: number): Finding[] {
  const who = `${kernelName}${hctl === undefined ? '' : ` (${hctl})`} of ${lun.device}`;
  const found: Finding[] = [];
  const late = (what: string, seconds: number, remedy: string): Finding => {
    const text = `requests on ${who} ${seconds === Infinity ? 'do not fail' : `fail only ${seconds} s`} after its target is lost (${what})`;
    return seconds >= deadSeconds
      ? error('FAILS_LATE', `${text}, and others may recover this host after ${deadSeconds} s without a beat: a request that waits so long could still be written after that. ${remedy}`)
      : warning('FAILS_LATE', `${text}: no beat gets through another path before I/O is parked after ${parkSeconds} s. ${remedy}`);
  };
  const { fastIoFail, devLoss, recovery, command } = times;
  // With fast_io_fail_tmo off requests wait until the remote port is removed (Linux 6.1 drivers/scsi/scsi_transport_fc.c:fc_timeout_deleted_rport).
  if (fastIoFail === 'off' && devLoss !== undefined && devLoss >= parkSeconds) found.push(late(`fast_io_fail_tmo off, dev_loss_tmo ${devLoss}`, devLoss, 'Set fast_io_fail_tmo 5 in multipath.conf'));
  if (typeof fastIoFail === 'number' && fastIoFail >= parkSeconds) found.push(late(`fast_io_fail_tmo ${fastIoFail}`, fastIoFail, 'Set fast_io_fail_tmo 5 in multipath.conf'));
  const session = recovery === 'off' ? Infinity : recovery;
  if (session !== undefined && session >= parkSeconds) found.push(late(`node.session.timeo.replacement_timeout ${session === Infinity ? 'below 0' : session}`, session, 'Set it to 5 (iscsiadm -m node -o update -n node.session.timeo.replacement_timeout -v 5), or fast_io_fail_tmo 5 in multipath.conf'));
  if (command !== undefined && command >= parkSeconds) {
    found.push(warning('COMMAND_TOO_LONG', `a request on ${who} that is not answered fails after ${command} s at the earliest, and I/O is parked after ${parkSeconds} s without a beat: one lost request stops the guests. Set /sys/block/${kernelName}/device/timeout to less, by a udev rule, or raise O2CB_HEARTBEAT_THRESHOLD on all nodes`));
  }
  return found;
}
