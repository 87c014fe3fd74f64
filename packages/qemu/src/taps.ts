/** Tap devices on bridges of the host, made for a guest before its QEMU starts: with them, QEMU needs neither rights nor a helper program. */
import { createHash } from 'node:crypto';
import { UsageError } from '@lunfs/device';
import type { GuestDefinition } from './definition.js';
import { findProgram, runProgram } from './process.js';

/** The tap device of each card of a guest, undefined for those that have none. */
export function tapNames({ uuid, nics }: GuestDefinition): (string | undefined)[] {
  return nics.map((nic, index) => (nic.kind === 'user' ? undefined : nic.kind === 'tap' ? nic.device : `lt${createHash('sha256').update(`${uuid}/${index}`).digest('hex').slice(0, 10)}`));
}

/** Those of them that are made at start and removed after the end. */
export function ownTaps(definition: GuestDefinition): string[] {
  return tapNames(definition).filter((name, index): name is string => name !== undefined && definition.nics[index].kind === 'bridge');
}

/** Make the taps and put them on their bridges; what was left of an earlier run is used again. Throws NIC_BRIDGE. */
export async function makeTaps(definition: GuestDefinition): Promise<void> {
  const names = tapNames(definition);
  for (const [index, nic] of definition.nics.entries()) {
    const tap = names[index];
    if (nic.kind !== 'bridge' || tap === undefined) continue;
    const ip = findProgram('ip', 'iproute2');
    try {
      await runProgram(ip, ['tuntap', 'add', 'dev', tap, 'mode', 'tap']);
      await runProgram(ip, ['link', 'set', 'dev', tap, 'master', nic.bridge, 'up']);
    } catch (cause) {
      await removeTaps([tap]);
      throw new UsageError('NIC_BRIDGE', 'EINVAL', `guest ${definition.name}: cannot make a tap device on bridge ${nic.bridge}: ${(cause as Error).message}`, { bridge: nic.bridge }, cause);
    }
  }
}

/** Those that have gone already are no matter. */
export async function removeTaps(taps: readonly string[]): Promise<void> {
  for (const tap of taps) await runProgram(findProgram('ip', 'iproute2'), ['link', 'delete', 'dev', tap]).catch(() => undefined);
}
