/** What lunfsd is told. */
export interface DaemonOptions {
  /** Name of this host in cluster.conf. Default: the host's name. */
  readonly node?: string;
  /** Which cluster of the file. Default: O2CB_BOOTCLUSTER, or the only one. */
  readonly cluster?: string;
  /** Default /etc/ocfs2/cluster.conf. */
  readonly config?: string;
  /** Default: /etc/default/o2cb, /etc/sysconfig/o2cb. */
  readonly settings?: string;
  /** Watchdog device that resets this host when its I/O cannot be stopped in time. Default: LUNFS_WATCHDOG of the settings, else none. */
  readonly watchdog?: string;
  /** Where sockets and logs go. Default: the run directory. */
  readonly data?: string;
  /** Where it is kept what is to be mounted. Default: /var/lib/lunfs, or `state` in `data` if that is given. */
  readonly stateDirectory?: string;
}
