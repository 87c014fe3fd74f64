/** What a tree of files is to `lunfs cp`, on this host or in a volume: the same few calls on both sides. Paths are bytes. */

export type Kind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block' | 'char';

export interface Time {
  readonly sec: number;
  readonly nsec: number;
}

export interface Entry {
  readonly kind: Kind;
  /** Permission bits with setuid, setgid, sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly links: number;
  /** The same for two names of one file of one tree. */
  readonly identity: string;
  /** Of device files. */
  readonly major: number;
  readonly minor: number;
  readonly atime: Time;
  readonly mtime: Time;
}

/** What a copy keeps of its source. */
export interface Preserved {
  readonly mode: boolean;
  readonly ownership: boolean;
  readonly timestamps: boolean;
  /** Extended attributes, ACLs among them. */
  readonly xattr: boolean;
}

/** An extended attribute: its full name, and its value as getxattr(2) gives it. */
export interface Xattr {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

export interface Range {
  readonly offset: number;
  readonly length: number;
}

export interface Reader {
  readonly size: number;
  /** The first range at or behind `offset` that may hold data; undefined: only a hole is left. */
  nextData(offset: number): Promise<Range | undefined>;
  /** Fill `into` from `offset` on; fewer bytes only at the end. */
  read(offset: number, into: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

export interface Writer {
  write(offset: number, bytes: Uint8Array): Promise<void>;
  setSize(size: number): Promise<void>;
  /** Show all that the file at `source` of the same tree does, by sharing its space; false: it is to be copied. The file must be empty. */
  share?(source: Uint8Array): Promise<boolean>;
  close(): Promise<void>;
}

export interface Tree {
  /** Throws unless files can share space. */
  needSharing?(): void;
  /** Zeros are left out as holes in units of so many bytes. */
  readonly granule: number;
  /** How messages name a path. */
  label(path: Uint8Array): string;
  entry(path: Uint8Array, follow: boolean): Promise<Entry | undefined>;
  list(directory: Uint8Array): Promise<Buffer[]>;
  readlink(path: Uint8Array): Promise<Uint8Array>;
  open(path: Uint8Array): Promise<Reader>;
  /** A new file, or an existing one emptied. */
  create(path: Uint8Array, mode: number): Promise<Writer>;
  mkdir(path: Uint8Array, mode: number): Promise<void>;
  symlink(path: Uint8Array, target: Uint8Array): Promise<void>;
  link(path: Uint8Array, existing: Uint8Array): Promise<void>;
  /** A FIFO, socket or device file like `entry`. */
  special(path: Uint8Array, entry: Entry, mode: number): Promise<void>;
  chmod(path: Uint8Array, mode: number): Promise<void>;
  /** Owner, mode and times as in `entry`, what is asked for of them; times of a symlink where the tree can. */
  preserve(path: Uint8Array, entry: Entry, what: Preserved): Promise<void>;
  /** Extended attributes of a file, or of the symlink itself. */
  xattrs(path: Uint8Array): Promise<Xattr[]>;
  setXattrs(path: Uint8Array, xattrs: readonly Xattr[]): Promise<void>;
}
