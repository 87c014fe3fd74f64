/**
 * The main thread's half of a session: checked requests in, the handler's answers out. It knows no file descriptor and no thread: messages
 * are given to `serve`, replies leave by `Transport.send`, so that tests can feed it any bytes.
 *
 * Invariants: every request but FORGET, BATCH_FORGET and INTERRUPT gets exactly one reply; a request whose answer the kernel no
 * longer wants (ENOENT) gives back the references and handles the answer would have carried; a message that cannot be framed ends
 * the session. Answers that are there at once are sent without a turn of the event loop; others do not hold up anything.
 */
import { ERRNO, errnoOf, InternalError, UsageError } from '@lunfs/device';
import type { AttributeChanges, Caller, Created, Entry, FileLock, FuseHandler, MaybePromise, OpenDirectory, OpenFile } from '../handler.js';
import { FATTR, FSYNC_FDATASYNC, GETATTR_FH, IOCTL_FLAG, LK_FLOCK, MAX_WRITE, O, OPEN_KILL_SUIDGID, RENAME_EXCHANGE, RENAME_NOREPLACE, SETXATTR_ACL_KILL_SGID, WRITE_FLAG } from '../protocol/constants.js';
import type { OpName } from '../protocol/constants.js';
import { printReply, printRequest } from '../protocol/print.js';
import { bytesReply, DirectoryReply, ioctlReply, lockType, putHeader, Replies } from '../protocol/replies.js';
import { decodeBody, decodeHeader, FramingError, opName } from '../protocol/requests.js';
import type { Header, Request, RequestBody } from '../protocol/requests.js';
import { OUT_HEADER } from '../protocol/structs.js';
import { OpenFiles } from './open-files.js';
import type { WorkerLink } from './open-files.js';

/** How a reply ended: `gone`, nobody waits for it any more; `closed`, the connection has ended. */
export type Sent = 'sent' | 'gone' | 'closed';

export interface Transport {
  send(reply: Uint8Array): Sent;
}

/** One message and the memory it lies in. `data` is page aligned and has 16 bytes in front of it that may be overwritten. */
export interface Message {
  readonly bytes: Uint8Array;
  /** MAX_WRITE bytes, page aligned: where a READ's data goes. The payload of a WRITE in `bytes` starts there too. */
  readonly data: Uint8Array;
  /** The 16 bytes before `data` and `data` as one piece: a READ's reply. */
  readonly reply: Uint8Array;
  /** Give the memory back; called exactly once, when nothing of it is used any more. */
  free(): void;
}

export interface DispatcherOptions {
  /** Called around serving each request, for who wants to know deep below for whom it is done. It returns what `serve` returns, at once or when it may be served. */
  readonly around?: <T>(caller: Caller, serve: () => MaybePromise<T>) => MaybePromise<T>;
  readonly trace?: (line: string) => void;
  /** Told of errors that no caller sees: failed releases, replies the kernel refused. */
  readonly onError?: (error: unknown, what: string) => void;
}

/** `build` is called right before its bytes are sent: small replies share one scratch buffer. `undo`: nobody got the reply. */
type Step = { readonly build: () => Uint8Array; readonly undo?: () => void };
type Outcome = MaybePromise<Step | undefined>;

/** A request being served. The abort signal is made only when a handler asks for it. */
class Call implements Caller {
  readonly header: Header;
  #abort: AbortController | undefined;

  constructor(header: Header) {
    this.header = header;
  }

  get uid(): number { return this.header.uid; }
  get gid(): number { return this.header.gid; }
  get pid(): number { return this.header.pid; }
  get signal(): AbortSignal { return (this.#abort ??= new AbortController()).signal; }

  interrupt(): void {
    this.#abort?.abort();
  }
}

function then<T, R>(value: MaybePromise<T>, next: (value: T) => R): MaybePromise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}

function unsupported(op: string): UsageError {
  return new UsageError('FUSE_UNSUPPORTED', 'ENOSYS', `this file system does not serve FUSE ${op}`, { op });
}

export class Dispatcher<F extends OpenFile, D extends OpenDirectory> {
  readonly files: OpenFiles<F, D>;
  readonly #handler: FuseHandler<F, D>;
  readonly #transport: Transport;
  readonly #options: DispatcherOptions;
  readonly #replies = new Replies();
  /** Requests whose answer is pending, by their unique number. */
  readonly #pending = new Map<number, Call>();
  #idle: (() => void)[] = [];

  constructor(handler: FuseHandler<F, D>, transport: Transport, link: WorkerLink, options: DispatcherOptions = {}) {
    this.#handler = handler;
    this.#transport = transport;
    this.#options = options;
    this.files = new OpenFiles(link, (file, at) => void this.#guard('wrote', () => handler.wrote(file, at)));
  }

  /** Requests not answered yet. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Resolves when every request that is pending now or becomes pending meanwhile has been answered. */
  async drained(): Promise<void> {
    if (this.#pending.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Serve one message. Raises FramingError when it cannot be framed: the session must end. */
  serve(message: Message): void {
    const { bytes } = message;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let header: Header;
    try {
      header = decodeHeader(bytes, view);
    } catch (error) {
      message.free();
      throw error instanceof FramingError ? error : new FramingError('the header of a FUSE message holds impossible numbers', { length: bytes.length });
    }
    this.#options.trace?.(printRequest(bytes));
    const call = new Call(header);
    let request: Request;
    let outcome: Outcome;
    try {
      request = decodeBody(header, bytes, view);
      const { around } = this.#options;
      const parsed = request;
      outcome = around === undefined ? this.#route(call, request, message) : around(call, () => this.#route(call, parsed, message));
    } catch (error) {
      this.#fail(call, opName(header.opcode), error);
      message.free();
      return;
    }
    if (!(outcome instanceof Promise)) {
      this.#answer(call, request.op, outcome);
      message.free();
      return;
    }
    const { op } = request;
    this.#pending.set(header.unique, call);
    outcome.then((step) => this.#answer(call, op, step), (error: unknown) => this.#fail(call, op, error)).finally(() => {
      message.free();
      this.#pending.delete(header.unique);
      if (this.#pending.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }).catch((error: unknown) => this.#options.onError?.(error, op));
  }

  /** Release what is open: the connection has ended, the kernel will not. */
  async releaseAll(): Promise<void> {
    const nobody = new Call({ len: 0, opcode: 0, unique: 0, nodeid: 0, uid: 0, gid: 0, pid: 0, total_extlen: 0 });
    const { files, directories } = this.files.drain();
    for (const file of files) await this.#guard('release', () => this.#handler.release(nobody, file));
    for (const directory of directories) await this.#guard('releasedir', () => this.#handler.releasedir(nobody, directory));
    await this.#guard('destroy', () => this.#handler.destroy?.());
  }

  #answer(call: Call, op: OpName, step: Step | undefined): void {
    if (step === undefined) return;
    let reply: Uint8Array;
    try {
      reply = step.build();
    } catch (error) {
      void this.#guard('undo', () => step.undo?.());
      this.#fail(call, op, error);
      return;
    }
    if (this.#send(op, reply) !== 'sent') void this.#guard('undo', () => step.undo?.());
  }

  #fail(call: Call, op: OpName | undefined, error: unknown): void {
    if (op === 'FORGET' || op === 'BATCH_FORGET' || op === 'INTERRUPT') {
      this.#options.onError?.(error, op);
      return;
    }
    this.#send(op, this.#replies.error(call.header.unique, errnoOf(error)));
    if (errnoOf(error) === ERRNO.EIO) this.#options.onError?.(error, op ?? 'request');
  }

  #send(op: OpName | undefined, reply: Uint8Array): Sent {
    this.#options.trace?.(printReply(op, reply));
    return this.#transport.send(reply);
  }

  /** Run what must not fail; a failure is told, never thrown. */
  #guard(what: string, run: () => MaybePromise<void>): MaybePromise<void> {
    try {
      const result = run();
      return result instanceof Promise ? result.catch((error: unknown) => this.#options.onError?.(error, what)) : result;
    } catch (error) {
      this.#options.onError?.(error, what);
    }
  }

  #done(call: Call, result: MaybePromise<void>): Outcome {
    return then(result, () => ({ build: () => this.#replies.error(call.header.unique, 0) }));
  }

  #entry(call: Call, result: MaybePromise<Entry | { nodeid: 0; entryTtl: number }>): Outcome {
    return then(result, (entry) => ({
      build: () => this.#replies.entry(call.header.unique, entry),
      undo: entry.nodeid === 0 ? undefined : () => this.#handler.forget(entry.nodeid, 1),
    }));
  }

  #bytes(call: Call, result: MaybePromise<Uint8Array>): Outcome {
    return then(result, (bytes) => ({ build: () => bytesReply(call.header.unique, bytes) }));
  }

  #created(call: Call, result: MaybePromise<Created<F>>): Outcome {
    return then(result, (created) => {
      const open = this.files.add(created.nodeid, created.file);
      return {
        build: () => this.#replies.create(call.header.unique, created, open.fh, open.openFlags),
        undo: () => {
          this.#handler.forget(created.nodeid, 1);
          void this.#release(call, open.fh);
        },
      };
    });
  }

  #release(call: Call, fh: number): MaybePromise<void> {
    return this.#guard('release', () => this.#handler.release(call, this.files.remove(fh)));
  }

  #route(call: Call, request: Request, message: Message): Outcome {
    const handler = this.#handler;
    const { unique, nodeid } = request.header;
    const done = (result: MaybePromise<void>) => this.#done(call, result);
    switch (request.op) {
      case 'LOOKUP': this.files.foldWrites(); return this.#entry(call, handler.lookup(call, nodeid, request.body.name));
      case 'FORGET': handler.forget(nodeid, request.body.nlookup); return undefined;
      case 'BATCH_FORGET': for (const one of request.body.entries) handler.forget(one.nodeid, one.nlookup); return undefined;
      case 'INTERRUPT': this.#pending.get(request.body.unique)?.interrupt(); return undefined; // unknown: answered, or a worker's, which does not wait
      case 'GETATTR': {
        this.files.foldWrites();
        const file = (request.body.getattr_flags & GETATTR_FH) !== 0 ? this.files.file(request.body.fh).file : undefined;
        return then(handler.getattr(call, nodeid, file), (reply) => ({ build: () => this.#replies.attr(unique, reply) }));
      }
      case 'SETATTR': {
        this.files.foldWrites();
        const { body } = request;
        const file = (body.valid & FATTR.FH) !== 0 ? this.files.file(body.fh).file : undefined;
        return then(handler.setattr(call, nodeid, changes(body), file), (reply) => ({ build: () => this.#replies.attr(unique, reply) }));
      }
      case 'READLINK': return this.#bytes(call, handler.readlink(call, nodeid));
      case 'SYMLINK': return this.#entry(call, handler.symlink(call, nodeid, request.body.name, request.body.target));
      case 'MKNOD': return this.#entry(call, handler.mknod(call, nodeid, request.body.name, request.body.mode, request.body.rdev, request.body.umask));
      case 'MKDIR': return this.#entry(call, handler.mkdir(call, nodeid, request.body.name, request.body.mode, request.body.umask));
      case 'UNLINK': return done(handler.unlink(call, nodeid, request.body.name));
      case 'RMDIR': return done(handler.rmdir(call, nodeid, request.body.name));
      case 'RENAME': case 'RENAME2': {
        const { name, newdir, newName, flags } = request.body;
        if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0 || flags === (RENAME_NOREPLACE | RENAME_EXCHANGE)) {
          throw new UsageError('FUSE_RENAME_FLAGS', 'EINVAL', `renameat2 flags ${flags} are not supported`, { flags });
        }
        return done(handler.rename(call, nodeid, name, newdir, newName, flags));
      }
      case 'LINK': this.files.foldWrites(); return this.#entry(call, handler.link(call, request.body.oldnodeid, nodeid, request.body.name));
      case 'OPEN':
        return then(handler.open(call, nodeid, request.body.flags, (request.body.open_flags & OPEN_KILL_SUIDGID) !== 0), (file) => {
          const open = this.files.add(nodeid, file);
          return { build: () => this.#replies.open(unique, open.fh, open.openFlags), undo: () => void this.#release(call, open.fh) };
        });
      case 'CREATE': return this.#created(call, handler.create(call, nodeid, request.body.name, request.body.mode, request.body.flags, request.body.umask));
      case 'TMPFILE': {
        if (handler.tmpfile === undefined) throw unsupported('TMPFILE');
        return this.#created(call, handler.tmpfile(call, nodeid, request.body.mode, request.body.flags, request.body.umask));
      }
      case 'READ': return this.#read(call, request.body, message);
      case 'WRITE': return this.#write(call, request.body, message);
      case 'STATFS': return then(handler.statfs(call), (status) => ({ build: () => this.#replies.statfs(unique, status) }));
      case 'RELEASE': return done(this.#release(call, request.body.fh));
      case 'FLUSH': {
        const { file } = this.files.file(request.body.fh);
        this.files.foldWrites();
        if (handler.flush === undefined) throw unsupported('FLUSH');
        return done(handler.flush(call, file, request.body.lock_owner));
      }
      case 'FSYNC': {
        const { file } = this.files.file(request.body.fh);
        this.files.foldWrites();
        return done(handler.fsync(call, file, (request.body.fsync_flags & FSYNC_FDATASYNC) !== 0));
      }
      case 'OPENDIR':
        return then(handler.opendir(call, nodeid), (directory) => {
          const { fh, openFlags } = this.files.addDirectory(directory);
          return {
            build: () => this.#replies.open(unique, fh, openFlags),
            undo: () => void this.#guard('releasedir', () => handler.releasedir(call, this.files.removeDirectory(fh))),
          };
        });
      case 'READDIR': return this.#readdir(call, request.body, false);
      case 'READDIRPLUS': this.files.foldWrites(); return this.#readdir(call, request.body, true);
      case 'RELEASEDIR': return done(this.#guard('releasedir', () => handler.releasedir(call, this.files.removeDirectory(request.body.fh))));
      case 'FSYNCDIR': return done(handler.fsyncdir(call, this.files.directory(request.body.fh), (request.body.fsync_flags & FSYNC_FDATASYNC) !== 0));
      case 'SYNCFS':
        if (handler.syncfs === undefined) throw unsupported('SYNCFS');
        this.files.foldWrites();
        return done(handler.syncfs(call));
      case 'FALLOCATE': {
        if (handler.fallocate === undefined) throw unsupported('FALLOCATE');
        const { fh, mode, offset, length } = request.body;
        return done(handler.fallocate(call, this.files.file(fh).file, mode, offset, length));
      }
      case 'LSEEK': {
        if (handler.lseek === undefined) throw unsupported('LSEEK');
        const { fh, offset, whence } = request.body;
        return then(handler.lseek(call, this.files.file(fh).file, offset, whence), (at) => ({ build: () => this.#replies.lseek(unique, at) }));
      }
      case 'COPY_FILE_RANGE': {
        if (handler.copyFileRange === undefined) throw unsupported('COPY_FILE_RANGE');
        const { fh_in, off_in, fh_out, off_out, len } = request.body;
        const copied = handler.copyFileRange(call, this.files.file(fh_in).file, off_in, this.files.file(fh_out).file, off_out, len);
        return then(copied, (size) => ({ build: () => this.#replies.written(unique, size) }));
      }
      case 'GETXATTR': {
        if (handler.getxattr === undefined) throw unsupported('GETXATTR');
        return this.#sized(call, request.body.size, handler.getxattr(call, nodeid, request.body.name));
      }
      case 'LISTXATTR': {
        if (handler.listxattr === undefined) throw unsupported('LISTXATTR');
        const list = then(handler.listxattr(call, nodeid), (names) => Buffer.concat(names.flatMap((name) => [name, Buffer.alloc(1)])));
        return this.#sized(call, request.body.size, list);
      }
      case 'SETXATTR':
        if (handler.setxattr === undefined) throw unsupported('SETXATTR');
        return done(handler.setxattr(call, nodeid, request.body.name, request.body.value, request.body.flags, (request.body.setxattr_flags & SETXATTR_ACL_KILL_SGID) !== 0));
      case 'REMOVEXATTR':
        if (handler.removexattr === undefined) throw unsupported('REMOVEXATTR');
        return done(handler.removexattr(call, nodeid, request.body.name));
      case 'IOCTL': return this.#ioctl(call, request.body);
      case 'GETLK': {
        if (handler.getlk === undefined) throw unsupported('GETLK');
        const found = handler.getlk(call, this.files.file(request.body.fh).file, request.body.owner, lockOf(request.body));
        return then(found, (lock) => ({ build: () => this.#replies.lock(unique, lock) }));
      }
      case 'SETLK': case 'SETLKW': return done(this.#lock(call, request.body, request.op === 'SETLKW'));
      case 'DESTROY': return done(undefined);
      // ACCESS: default_permissions is always on, the kernel decides. BMAP, POLL, STATX: it knows what to do without us.
      case 'ACCESS': case 'BMAP': case 'POLL': case 'STATX': case 'SETUPMAPPING': case 'REMOVEMAPPING': throw unsupported(request.op);
      case 'NOTIFY_REPLY': case 'INIT': throw new UsageError('FUSE_OUT_OF_PLACE', 'EINVAL', `FUSE ${request.op} makes no sense now`);
    }
  }

  #read(call: Call, body: RequestBody<'READ'>, message: Message): Outcome {
    if (body.size > MAX_WRITE) throw new UsageError('FUSE_READ_SIZE', 'EINVAL', `a READ of ${body.size} bytes; ${MAX_WRITE} is the limit`);
    const entry = this.files.file(body.fh);
    const into = message.data.subarray(0, body.size);
    return then(this.#handler.read(call, entry.file, body.offset, into), (count) => {
      if (!(count >= 0 && count <= body.size)) throw new InternalError('FUSE_READ_COUNT', `the file system read ${count} of ${body.size} bytes`);
      const length = OUT_HEADER.size + count;
      const reply = message.reply.subarray(0, length);
      putHeader(new DataView(reply.buffer, reply.byteOffset, OUT_HEADER.size), 0, length, 0, call.header.unique);
      void this.files.teach(entry, body.offset, body.size, false, false);
      return { build: () => reply };
    });
  }

  #write(call: Call, body: RequestBody<'WRITE'>, message: Message): Outcome {
    const entry = this.files.file(body.fh);
    const { file } = entry;
    const end = body.offset + body.size;
    const grows = file.backend === undefined || end > file.backend.size;
    const how = { killSuidGid: (body.write_flags & WRITE_FLAG.KILL_SUIDGID) !== 0, cached: (body.write_flags & WRITE_FLAG.CACHE) !== 0, append: (body.flags & O.APPEND) !== 0 };
    // The payload lies at the start of `data` when the message came through a lane; elsewhere `bytes` need not be aligned.
    const from = body.data.byteOffset === message.data.byteOffset ? message.data.subarray(0, body.size) : body.data;
    const written = then(this.#handler.write(call, file, body.offset, from, how), (size) => {
      // The kernel sends no FSYNC after an O_SYNC write that bypassed its cache by FOPEN_DIRECT_IO.
      if (file.directIo !== true || (body.flags & O.DSYNC) === 0) return size;
      return then(this.#handler.fsync(call, file, false), () => size);
    });
    return then(written as MaybePromise<number>, (size) => {
      void this.files.teach(entry, body.offset, body.size, true, grows);
      return { build: () => this.#replies.written(call.header.unique, size) };
    });
  }

  #readdir(call: Call, body: RequestBody<'READDIR'>, plus: boolean): Outcome {
    const directory = this.files.directory(body.fh);
    const reply = new DirectoryReply(Math.min(body.size, MAX_WRITE), plus);
    const counted: number[] = [];
    const add = (entry: Parameters<DirectoryReply['add']>[0]): boolean => {
      const taken = reply.add(entry);
      if (taken && plus && entry.entry !== undefined) counted.push(entry.entry.nodeid);
      return taken;
    };
    const undo = () => {
      for (const nodeid of counted) this.#handler.forget(nodeid, 1);
    };
    const failed = (error: unknown): never => {
      undo();
      throw error;
    };
    let result: MaybePromise<void>;
    try {
      result = this.#handler.readdir(call, directory, body.offset, plus, add);
    } catch (error) {
      return failed(error);
    }
    const finish = () => ({ build: () => reply.finish(call.header.unique), undo });
    return result instanceof Promise ? result.then(finish, failed) : finish();
  }

  /** A value for a caller with room for `room` bytes; 0 asks for its size. */
  #sized(call: Call, room: number, value: MaybePromise<Uint8Array>): Outcome {
    return then(value, (bytes) => {
      if (room === 0) return { build: () => this.#replies.xattrSize(call.header.unique, bytes.length) };
      if (bytes.length > room) throw new UsageError('FUSE_XATTR_RANGE', 'ERANGE', `${bytes.length} bytes of extended attributes, room for ${room}`);
      return { build: () => bytesReply(call.header.unique, bytes) };
    });
  }

  #ioctl(call: Call, body: RequestBody<'IOCTL'>): Outcome {
    // The kernel takes ENOSYS here for "no ioctl at all" and answers callers ENOTTY.
    if (this.#handler.ioctl === undefined) throw unsupported('IOCTL');
    const isDirectory = (body.flags & IOCTL_FLAG.DIR) !== 0;
    const target = isDirectory ? this.files.directory(body.fh) : this.files.file(body.fh).file;
    const outSize = Math.min(body.out_size, MAX_WRITE);
    return then(this.#handler.ioctl(call, call.header.nodeid, target, body.cmd, body.data, outSize), (output) => {
      if (output.length > outSize) throw new InternalError('FUSE_IOCTL_SIZE', `an ioctl's answer of ${output.length} bytes where ${outSize} are allowed`);
      return { build: () => ioctlReply(call.header.unique, output) };
    });
  }

  #lock(call: Call, body: RequestBody<'SETLK'>, wait: boolean): MaybePromise<void> {
    const { file } = this.files.file(body.fh);
    const lock = lockOf(body);
    if ((body.lk_flags & LK_FLOCK) !== 0) {
      if (this.#handler.flock === undefined) throw unsupported('SETLK (flock)');
      return this.#handler.flock(call, file, body.owner, lock.type, wait);
    }
    if (this.#handler.setlk === undefined) throw unsupported('SETLK');
    return this.#handler.setlk(call, file, body.owner, lock, wait);
  }
}

function lockOf(body: RequestBody<'SETLK'>): FileLock {
  const type = lockType(body.type);
  if (type === undefined) throw new UsageError('FUSE_LOCK_TYPE', 'EINVAL', `lock type ${body.type} is unknown`, { type: body.type });
  return { start: body.start, end: body.end, type, pid: body.pid };
}

function changes(body: RequestBody<'SETATTR'>): AttributeChanges {
  const { valid } = body;
  const time = (set: number, now: number, sec: number, nsec: number) => {
    if ((valid & now) !== 0) return 'now' as const;
    return (valid & set) !== 0 ? { sec, nsec } : undefined;
  };
  return {
    mode: (valid & FATTR.MODE) !== 0 ? body.mode : undefined,
    uid: (valid & FATTR.UID) !== 0 ? body.uid : undefined,
    gid: (valid & FATTR.GID) !== 0 ? body.gid : undefined,
    size: (valid & FATTR.SIZE) !== 0 ? body.size : undefined,
    atime: time(FATTR.ATIME, FATTR.ATIME_NOW, body.atime, body.atimensec),
    mtime: time(FATTR.MTIME, FATTR.MTIME_NOW, body.mtime, body.mtimensec),
    ctime: (valid & FATTR.CTIME) !== 0 ? { sec: body.ctime, nsec: body.ctimensec } : undefined,
    killSuidGid: (valid & FATTR.KILL_SUIDGID) !== 0,
  };
}
