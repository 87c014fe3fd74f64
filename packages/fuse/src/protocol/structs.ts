/**
 * The structures of the FUSE protocol, minor 39, as tables. Source of every offset: Linux include/uapi/linux/fuse.h.
 * Names are the header's, without the `fuse_` prefix. Reserved and padding fields are left out: they are zero on the wire.
 */
import { struct } from './struct.js';

export const IN_HEADER = struct('fuse_in_header', 40, {
  len: [0, 'u32'], opcode: [4, 'u32'], unique: [8, 'u64'], nodeid: [16, 'u64'],
  uid: [24, 'u32'], gid: [28, 'u32'], pid: [32, 'u32'], total_extlen: [36, 'u16'],
});
export const OUT_HEADER = struct('fuse_out_header', 16, { len: [0, 'u32'], error: [4, 'i32'], unique: [8, 'u64'] });

export const ATTR = struct('fuse_attr', 88, {
  ino: [0, 'u64'], size: [8, 'u64'], blocks: [16, 'u64'], atime: [24, 's64'], mtime: [32, 's64'], ctime: [40, 's64'],
  atimensec: [48, 'u32'], mtimensec: [52, 'u32'], ctimensec: [56, 'u32'], mode: [60, 'u32'], nlink: [64, 'u32'],
  uid: [68, 'u32'], gid: [72, 'u32'], rdev: [76, 'u32'], blksize: [80, 'u32'], flags: [84, 'u32'],
});
export const ENTRY_OUT = struct('fuse_entry_out', 128, {
  nodeid: [0, 'u64'], generation: [8, 'x64'], entry_valid: [16, 'u64'], attr_valid: [24, 'u64'],
  entry_valid_nsec: [32, 'u32'], attr_valid_nsec: [36, 'u32'], // fuse_attr follows at 40
});
export const ENTRY_ATTR_AT = 40;
export const ATTR_OUT = struct('fuse_attr_out', 104, { attr_valid: [0, 'u64'], attr_valid_nsec: [8, 'u32'] /* fuse_attr at 16 */ });
export const ATTR_OUT_ATTR_AT = 16;

export const FORGET_IN = struct('fuse_forget_in', 8, { nlookup: [0, 'u64'] });
export const FORGET_ONE = struct('fuse_forget_one', 16, { nodeid: [0, 'u64'], nlookup: [8, 'u64'] });
export const BATCH_FORGET_IN = struct('fuse_batch_forget_in', 8, { count: [0, 'u32'] });
export const GETATTR_IN = struct('fuse_getattr_in', 16, { getattr_flags: [0, 'u32'], fh: [8, 'u64'] });
export const SETATTR_IN = struct('fuse_setattr_in', 88, {
  valid: [0, 'u32'], fh: [8, 'u64'], size: [16, 'off'], lock_owner: [24, 'x64'], atime: [32, 's64'], mtime: [40, 's64'], ctime: [48, 's64'],
  atimensec: [56, 'u32'], mtimensec: [60, 'u32'], ctimensec: [64, 'u32'], mode: [68, 'u32'], uid: [76, 'u32'], gid: [80, 'u32'],
});
export const MKNOD_IN = struct('fuse_mknod_in', 16, { mode: [0, 'u32'], rdev: [4, 'u32'], umask: [8, 'u32'] });
export const MKDIR_IN = struct('fuse_mkdir_in', 8, { mode: [0, 'u32'], umask: [4, 'u32'] });
export const RENAME_IN = struct('fuse_rename_in', 8, { newdir: [0, 'u64'] });
export const RENAME2_IN = struct('fuse_rename2_in', 16, { newdir: [0, 'u64'], flags: [8, 'u32'] });
export const LINK_IN = struct('fuse_link_in', 8, { oldnodeid: [0, 'u64'] });
export const OPEN_IN = struct('fuse_open_in', 8, { flags: [0, 'u32'], open_flags: [4, 'u32'] });
export const CREATE_IN = struct('fuse_create_in', 16, { flags: [0, 'u32'], mode: [4, 'u32'], umask: [8, 'u32'], open_flags: [12, 'u32'] });
export const OPEN_OUT = struct('fuse_open_out', 16, { fh: [0, 'u64'], open_flags: [8, 'u32'] });
export const RELEASE_IN = struct('fuse_release_in', 24, { fh: [0, 'u64'], flags: [8, 'u32'], release_flags: [12, 'u32'], lock_owner: [16, 'x64'] });
export const FLUSH_IN = struct('fuse_flush_in', 24, { fh: [0, 'u64'], lock_owner: [16, 'x64'] });
export const READ_IN = struct('fuse_read_in', 40, {
  fh: [0, 'u64'], offset: [8, 'off'], size: [16, 'u32'], read_flags: [20, 'u32'], lock_owner: [24, 'x64'], flags: [32, 'u32'],
});
export const WRITE_IN = struct('fuse_write_in', 40, {
  fh: [0, 'u64'], offset: [8, 'off'], size: [16, 'u32'], write_flags: [20, 'u32'], lock_owner: [24, 'x64'], flags: [32, 'u32'],
});
export const WRITE_OUT = struct('fuse_write_out', 8, { size: [0, 'u32'] });
export const STATFS_OUT = struct('fuse_statfs_out', 80, {
  blocks: [0, 'u64'], bfree: [8, 'u64'], bavail: [16, 'u64'], files: [24, 'u64'], ffree: [32, 'u64'],
  bsize: [40, 'u32'], namelen: [44, 'u32'], frsize: [48, 'u32'],
});
export const FSYNC_IN = struct('fuse_fsync_in', 16, { fh: [0, 'u64'], fsync_flags: [8, 'u32'] });
export const SETXATTR_IN = struct('fuse_setxattr_in', 8, { size: [0, 'u32'], flags: [4, 'u32'] });
/** What follows it when FUSE_SETXATTR_EXT was negotiated. */
export const SETXATTR_IN_EXT = struct('fuse_setxattr_in (extension)', 8, { setxattr_flags: [0, 'u32'] });
export const GETXATTR_IN = struct('fuse_getxattr_in', 8, { size: [0, 'u32'] });
export const GETXATTR_OUT = struct('fuse_getxattr_out', 8, { size: [0, 'u32'] });
export const LK_IN = struct('fuse_lk_in', 48, {
  fh: [0, 'u64'], owner: [8, 'x64'], start: [16, 'x64'], end: [24, 'x64'], type: [32, 'u32'], pid: [36, 'u32'], lk_flags: [40, 'u32'],
});
export const LK_OUT = struct('fuse_lk_out', 24, { start: [0, 'x64'], end: [8, 'x64'], type: [16, 'u32'], pid: [20, 'u32'] });
export const ACCESS_IN = struct('fuse_access_in', 8, { mask: [0, 'u32'] });
export const INIT_IN = struct('fuse_init_in', 16, { major: [0, 'u32'], minor: [4, 'u32'], max_readahead: [8, 'u32'], flags: [12, 'u32'] });
/** What follows fuse_init_in's first 16 bytes when FUSE_INIT_EXT is set. */
export const INIT_IN_EXT = struct('fuse_init_in (extension)', 48, { flags2: [0, 'u32'] });
export const INIT_OUT = struct('fuse_init_out', 64, {
  major: [0, 'u32'], minor: [4, 'u32'], max_readahead: [8, 'u32'], flags: [12, 'u32'], max_background: [16, 'u16'], congestion_threshold: [18, 'u16'],
  max_write: [20, 'u32'], time_gran: [24, 'u32'], max_pages: [28, 'u16'], map_alignment: [30, 'u16'], flags2: [32, 'u32'],
});
export const INTERRUPT_IN = struct('fuse_interrupt_in', 8, { unique: [0, 'u64'] });
export const BMAP_IN = struct('fuse_bmap_in', 16, { block: [0, 'u64'], blocksize: [8, 'u32'] });
export const IOCTL_IN = struct('fuse_ioctl_in', 32, {
  fh: [0, 'u64'], flags: [8, 'u32'], cmd: [12, 'u32'], arg: [16, 'x64'], in_size: [24, 'u32'], out_size: [28, 'u32'],
});
export const IOCTL_OUT = struct('fuse_ioctl_out', 16, { result: [0, 'i32'], flags: [4, 'u32'], in_iovs: [8, 'u32'], out_iovs: [12, 'u32'] });
export const POLL_IN = struct('fuse_poll_in', 24, { fh: [0, 'u64'], kh: [8, 'u64'], flags: [16, 'u32'], events: [20, 'u32'] });
export const FALLOCATE_IN = struct('fuse_fallocate_in', 32, { fh: [0, 'u64'], offset: [8, 'off'], length: [16, 'off'], mode: [24, 'u32'] });
export const LSEEK_IN = struct('fuse_lseek_in', 24, { fh: [0, 'u64'], offset: [8, 'off'], whence: [16, 'u32'] });
export const LSEEK_OUT = struct('fuse_lseek_out', 8, { offset: [0, 'u64'] });
export const COPY_FILE_RANGE_IN = struct('fuse_copy_file_range_in', 56, {
  fh_in: [0, 'u64'], off_in: [8, 'off'], nodeid_out: [16, 'u64'], fh_out: [24, 'u64'], off_out: [32, 'off'], len: [40, 'u64'], flags: [48, 'x64'],
});
export const SYNCFS_IN = struct('fuse_syncfs_in', 8, { padding: [0, 'x64'] });

/** Header of a directory record; the name follows, padded with zeroes to a multiple of 8 (FUSE_DIRENT_ALIGN). */
export const DIRENT = struct('fuse_dirent', 24, { ino: [0, 'u64'], off: [8, 'u64'], namelen: [16, 'u32'], type: [20, 'u32'] });

export const NOTIFY_INVAL_INODE_OUT = struct('fuse_notify_inval_inode_out', 24, { ino: [0, 'u64'], off: [8, 's64'], len: [16, 's64'] });
export const NOTIFY_INVAL_ENTRY_OUT = struct('fuse_notify_inval_entry_out', 16, { parent: [0, 'u64'], namelen: [8, 'u32'], flags: [12, 'u32'] });
export const NOTIFY_DELETE_OUT = struct('fuse_notify_delete_out', 24, { parent: [0, 'u64'], child: [8, 'u64'], namelen: [16, 'u32'] });
