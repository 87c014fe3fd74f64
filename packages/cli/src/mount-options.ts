/**
 * Mount options, as `lunfs mount -o` and lines of /etc/fstab have them: the kernel's, our own, and all that mount.ocfs2(8) and Linux's OCFS2 take
 * (Linux 6.1 fs/ocfs2/super.c: `tokens`), so that a line for the kernel's file system works for ours. What of those we do otherwise is said, each time.
 */
import { UsageError } from '@lunfs/device';

export interface MountChoice {
  readonly readOnly: boolean;
  readonly offline: boolean;
  readonly allowOther: boolean;
  readonly writeback: boolean;
  /** Nothing may be written to the directory while it is not mounted; undefined: not said. */
  readonly seal?: boolean;
  /** The kernel's own. */
  readonly kernel: string[];
  /** Of options that are not honoured, what is done instead. */
  readonly notes: string[];
}

/** Handed to the kernel as they are. */
const KERNEL_OPTIONS = new Set(['noatime', 'nodiratime', 'relatime', 'strictatime', 'nosuid', 'suid', 'nodev', 'dev', 'noexec', 'exec', 'sync', 'dirsync', 'default_permissions']);
/** Words for other readers of fstab, and the kernel's defaults. */
const IGNORED = new Set([
  'defaults', 'rw', 'auto', 'noauto', 'nofail', '_netdev', 'allow_other', 'async', 'user', 'nouser', 'users', 'group', 'owner', 'loud', 'silent', 'nomand', 'norelatime', 'nostrictatime', 'nolazytime', 'atime', 'diratime',
]);

const CORRUPT = 'a volume that is found corrupt takes no more changes (errors=remount-ro)';
const INTERRUPT = 'a request of the mount can be interrupted by signals that kill';
const ALLOCATION = 'lunfs chooses how much it reserves';

/** OCFS2's: what is done, where that is not what the option says. A value that is missing here is a wrong one. */
const OCFS2_OPTIONS: Readonly<Record<string, (value: string | undefined) => string | undefined | false>> = {
  errors: choice({ 'remount-ro': undefined, panic: CORRUPT, continue: CORRUPT }),
  data: choice({ ordered: undefined, writeback: 'data is written before the metadata that leads to it (data=ordered)' }),
  barrier: number((value) => (value === 0 ? 'the device is flushed whenever order matters (barrier=1)' : undefined)),
  heartbeat: choice({ local: undefined, global: undefined, none: 'the superblock says how a volume is shared' }),
  coherency: choice({ full: undefined, buffered: 'direct writes exclude each other in the whole cluster (coherency=full)' }),
  cluster_stack: (value) => (value === undefined || value === '' ? false : value === 'o2cb' ? undefined : 'the superblock names the stack'),
  intr: flag(INTERRUPT), nointr: flag(INTERRUPT),
  atime_quantum: number(() => 'access times of files are not kept'),
  preferred_slot: number(() => 'the first free slot is taken'), slot: number(() => 'the first free slot is taken'),
  commit: number(() => 'changes are committed as often as lunfs chooses, and by fsync'),
  localalloc: number(() => ALLOCATION), resv_level: number(() => ALLOCATION), dir_resv_level: number(() => ALLOCATION),
  localflocks: flag('flock(2) holds in the whole cluster'),
  journal_async_commit: flag('a commit block is written after what it commits'),
  inode64: flag(), acl: flag(), user_xattr: flag(), usrquota: flag(), grpquota: flag(),
  noacl: flag('ACLs of the volume decide'), nouser_xattr: flag('attributes of users are served'),
};

/** Throws BAD_OPTION. `sloppy`: not for options that nobody knows (mount -s). */
export function parseMountOptions(words: readonly string[], sloppy = false): MountChoice {
  const out = { readOnly: false, offline: false, allowOther: true, writeback: false, seal: undefined as boolean | undefined, kernel: [] as string[], notes: [] as string[] };
  for (const word of words) {
    const [name, value] = [word.split('=', 1)[0], word.includes('=') ? word.slice(word.indexOf('=') + 1) : undefined];
    if (word === 'ro') out.readOnly = true;
    else if (word === 'offline') out.offline = true;
    else if (word === 'private') out.allowOther = false;
    else if (word === 'writeback') out.writeback = true;
    else if (word === 'seal' || word === 'noseal') out.seal = word === 'seal';
    else if (word === 'remount') throw new UsageError('BAD_OPTION', 'EINVAL', '-o remount: a mount of lunfs cannot be changed; unmount it and mount it anew', { option: word });
    else if (KERNEL_OPTIONS.has(word)) out.kernel.push(word);
    else if (Object.hasOwn(OCFS2_OPTIONS, name)) {
      const note = OCFS2_OPTIONS[name](value);
      if (note === false) throw new UsageError('BAD_OPTION', 'EINVAL', `-o ${word}: OCFS2 has no such value of ${name}`, { option: word });
      if (note !== undefined) out.notes.push(`-o ${word} is not honoured: ${note}`);
    } else if (!IGNORED.has(word) && !word.startsWith('x-') && name !== 'comment' && !sloppy) {
      throw new UsageError('BAD_OPTION', 'EINVAL', `-o ${word}: no such option; known are ro, rw, offline, writeback, private, seal, noseal, ${[...KERNEL_OPTIONS].join(', ')}, and those of mount.ocfs2`, { option: word });
    }
  }
  return out;
}

type Check = (value: string | undefined) => string | undefined | false;

function choice(values: Readonly<Record<string, string | undefined>>): Check {
  return (value) => (value !== undefined && Object.hasOwn(values, value) ? values[value] : false);
}

function number(note: (value: number) => string | undefined): Check {
  return (value) => (value !== undefined && /^-?\d{1,10}$/.test(value) ? note(Number(value)) : false);
}

function flag(note?: string): Check {
  return (value) => (value === undefined ? note : false);
}
