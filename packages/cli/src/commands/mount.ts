/** `lunfs mount`: a volume process with a mount of type fuse.lunfs. Exit codes are mount(8)'s. */
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { startVolumeProcess } from '@lunfs/host';
import { Unsuccessful, examples } from '../command.js';
import { note } from '../output.js';
import { needDevice } from '../target.js';
import { explainBusy } from '../device-access.js';

interface Options {
  options: string[];
  readOnly?: boolean;
  offline?: boolean;
  foreground?: boolean;
  trace?: boolean;
  verbose?: boolean;
}

/** Handed to the kernel as they are. */
const KERNEL_OPTIONS = new Set(['noatime', 'nodiratime', 'relatime', 'strictatime', 'nosuid', 'suid', 'nodev', 'dev', 'noexec', 'exec', 'sync', 'dirsync', 'default_permissions']);
/** Words for other readers of fstab. */
const IGNORED = new Set(['defaults', 'rw', 'auto', 'noauto', 'nofail', '_netdev', 'allow_other']);

export function mount(program: Command): void {
  program
    .command('mount')
    .summary('mount a volume')
    .description('Mount a volume, by a process of its own that goes on in the background. Exit code as mount(8): 0 mounted, 1 wrong usage, 32 it could not be mounted.')
    .argument('<device>', 'block device or image file')
    .argument('<directory>', 'where: an existing directory')
    .option('-o, --options <list>', 'as in fstab: ro, offline, noatime, nosuid, nodev, noexec, private, …', (text: string, all: string[]) => [...all, ...text.split(',').filter(Boolean)], [])
    .option('-r, --read-only', 'same as -o ro')
    .option('--offline', 'same as -o offline: write to a volume of a cluster that nobody has mounted')
    .option('-f, --foreground', 'stay, until unmounted or Ctrl-C')
    .option('--trace', 'print every FUSE message (with --foreground)')
    .option('-v, --verbose', 'say where it runs')
    .addHelpText('after', examples('lunfs mount /dev/mapper/lun0 /mnt', 'lunfs mount -o ro,noatime lun.img /mnt', 'umount /mnt'))
    .action(async (text: string, directory: string, given: Options) => {
      const device = needDevice(text);
      if (given.trace && !given.foreground) throw new UsageError('BAD_OPTION', 'EINVAL', '--trace prints to the terminal: use it with --foreground', {});
      const { readOnly, offline, allowOther, kernel } = parseOptions(given);
      const started = await startVolumeProcess({
        device, readOnly, offline, foreground: given.foreground, mount: { directory, allowOther, options: kernel, trace: given.trace },
      }).catch((error: unknown) => explainBusy(device, error));
      const { slots, blocks } = started.facts.recovery;
      if (slots.length > 0) note('mount', `${device}: ${readOnly ? 'shown as recovery would leave it:' : 'recovered'} the journal of slot ${slots.join(', ')}${readOnly ? '' : ` (${blocks} blocks)`}`);
      if (given.verbose || given.foreground) note('mount', `${device} is mounted on ${started.facts.mount}, process ${started.pid}${started.log ? `, log ${started.log}` : ''}`);
      if (given.foreground) await stay(started);
    });
}

/** Wait for the process; signals of the terminal reach it as well, those sent to us alone are handed on. */
export async function stay(started: { readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>; kill(signal: NodeJS.Signals): void }): Promise<void> {
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => started.kill('SIGTERM'));
  const { code, signal } = await started.exited;
  if (code !== 0) throw new Unsuccessful(code ?? (signal === null ? 32 : 4));
}

function parseOptions({ options, readOnly, offline }: Options): { readOnly: boolean; offline: boolean; allowOther: boolean; kernel: string[] } {
  const out = { readOnly: readOnly ?? false, offline: offline ?? false, allowOther: true, kernel: [] as string[] };
  for (const word of options) {
    if (word === 'ro') out.readOnly = true;
    else if (word === 'offline') out.offline = true;
    else if (word === 'private') out.allowOther = false;
    else if (KERNEL_OPTIONS.has(word)) out.kernel.push(word);
    else if (!IGNORED.has(word) && !word.startsWith('x-')) {
      throw new UsageError('BAD_OPTION', 'EINVAL', `-o ${word}: no such option; known are ro, rw, offline, private, ${[...KERNEL_OPTIONS].join(', ')}`, { option: word });
    }
  }
  return out;
}
