/** The table of commands, in the order of the help page. A command line loads the one it names; the others cost it no time. */
import type { Define } from '../command.js';

interface CommandEntry {
  readonly name: string;
  readonly load: () => Promise<Define>;
}

export const commands: readonly CommandEntry[] = [
  { name: 'mkfs', load: async () => (await import('./mkfs.js')).mkfs },
  { name: 'mount', load: async () => (await import('./mount.js')).mount },
  { name: 'mount.fuse.lunfs', load: async () => (await import('./mount-helper.js')).mountHelper },
  { name: 'umount.fuse.lunfs', load: async () => (await import('./mount-helper.js')).umountHelper },
  { name: 'umount', load: async () => (await import('./umount.js')).umount },
  { name: 'up', load: async () => (await import('./up.js')).up },
  { name: 'down', load: async () => (await import('./up.js')).down },
  { name: 'status', load: async () => (await import('./cluster.js')).status },
  { name: 'install-units', load: async () => (await import('./install-units.js')).installUnits },
  { name: 'cluster', load: async () => (await import('./cluster.js')).cluster },
  { name: 'locks', load: async () => (await import('./locks.js')).locks },
  { name: 'lun', load: async () => (await import('./lun/index.js')).lun },
  { name: 'info', load: async () => (await import('./info.js')).info },
  { name: 'df', load: async () => (await import('./df.js')).df },
  { name: 'grow', load: async () => (await import('./grow.js')).grow },
  { name: 'trim', load: async () => (await import('./trim.js')).trim },
  { name: 'ls', load: async () => (await import('./ls.js')).ls },
  { name: 'cat', load: async () => (await import('./cat.js')).cat },
  { name: 'cp', load: async () => (await import('./cp.js')).cp },
  { name: 'rm', load: async () => (await import('./rm.js')).rm },
  { name: 'mkdir', load: async () => (await import('./mkdir.js')).mkdir },
  { name: 'mv', load: async () => (await import('./mv.js')).mv },
  { name: 'stat', load: async () => (await import('./stat.js')).stat },
  { name: 'check', load: async () => (await import('./check.js')).check },
  { name: 'recover-super', load: async () => (await import('./recover-super.js')).recoverSuper },
  { name: 'dump', load: async () => (await import('./dump.js')).dump },
  { name: 'o2cb', load: async () => (await import('./o2cb/index.js')).o2cb },
  { name: 'quota', load: async () => (await import('./quota/index.js')).quota },
  { name: 'disk', load: async () => (await import('./disk/index.js')).disk },
  { name: 'guest', load: async () => (await import('./guest/index.js')).guest },
  { name: 'export', load: async () => (await import('./disk/export.js')).exportDisk },
  { name: 'control', load: async () => (await import('./control/index.js')).control },
  { name: 'task', load: async () => (await import('./control/task.js')).task },
  { name: 'event', load: async () => (await import('./control/event.js')).event },
  { name: 'user', load: async () => (await import('./control/user.js')).user },
  { name: 'token', load: async () => (await import('./control/token.js')).token },
];
