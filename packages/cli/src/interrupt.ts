/**
 * Ctrl-C: work that writes stops at the next safe place, so that the volume is closed cleanly; a second one ends the process at once
 * (the journal then waits for recovery).
 */
import { UsageError } from '@lunfs/device';

let interrupted = false;

/** Signals ask for an end from now on. The returned function gives them their usual meaning back. */
export function catchSignals(): () => void {
  const ask = (): void => {
    interrupted = true;
    restore();
  };
  const restore = (): void => {
    process.off('SIGINT', ask);
    process.off('SIGTERM', ask);
  };
  process.on('SIGINT', ask);
  process.on('SIGTERM', ask);
  return restore;
}

/** Throws INTERRUPTED once a signal has come. Called between steps of long work. */
export function checkInterrupted(): void {
  if (interrupted) throw new UsageError('INTERRUPTED', 'EINTR', 'interrupted; what was done so far is kept');
}
