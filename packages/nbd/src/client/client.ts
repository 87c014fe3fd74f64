/**
 * An NBD client for tests and tools. Requests may be issued without waiting for one another; replies are matched by
 * cookie. A connection that ends fails everything in flight with NBD_CLOSED; `NbdClient.connect` anew to go on.
 */
import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import * as tls from 'node:tls';
import { NbdConnectionError, NbdRequestError } from '../errors.js';
import {
  BlockState, Chunk, Command, CommandFlag, HandshakeFlag, Hello, IHAVEOPT, Info, MAX_PAYLOAD, META_BASE_ALLOCATION, NBD_MAGIC, NBD_REP_MAGIC, NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC, NBD_STRUCTURED_REPLY_MAGIC, Option, OptionHeader, OptionReply, OptionReplyHeader, REPLY_TYPE_ERROR_BIT, ReplyFlag, ReplyType, Request,
  SimpleReply, TransmissionFlag, commandName, optionName,
} from '../protocol.js';
import { WireReader } from './wire-reader.js';

export interface NbdClientOptions {
  /** Unix socket; else `host` and `port`. */
  readonly path?: string;
  readonly host?: string;
  readonly port?: number;
  /** Upgrade to TLS with these options (ca, cert, key, servername). */
  readonly tls?: tls.ConnectionOptions;
}

export interface NbdExportInfo {
  readonly size: number;
  readonly flags: number;
  readonly name?: string;
  readonly description?: string;
  readonly blockSize?: { readonly minimum: number; readonly preferred: number; readonly maximumPayload: number };
}

export interface NbdExtent {
  readonly length: number;
  readonly hole: boolean;
  readonly zero: boolean;
}

interface Pending {
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  readonly data: Buffer | null;
  extents: NbdExtent[];
  error: NbdRequestError | null;
  resolve(): void;
  reject(error: unknown): void;
}

/** What an option was answered with, errors apart. */
interface OptionAnswer {
  readonly type: number;
  readonly data: Buffer;
}

export class NbdClient {
  /** What `go` was told; null before. */
  info: NbdExportInfo | null = null;
  #reader: WireReader;
  #stream: Duplex;
  #structured = false;
  #context: number | null = null;
  #next = 1n;
  #closed: Error | null = null;
  readonly #pending = new Map<bigint, Pending>();

  private constructor(stream: Duplex) {
    this.#stream = stream;
    this.#reader = new WireReader(stream);
  }

  /** Connect and shake hands; upgrades to TLS when asked. Errors: NBD_REFUSED, NBD_PROTOCOL, NBD_CLOSED. */
  static async connect(options: NbdClientOptions): Promise<NbdClient> {
    const where = options.path ?? `${options.host ?? '127.0.0.1'}:${options.port}`;
    const socket = options.path !== undefined ? net.connect({ path: options.path }) : net.connect({ host: options.host ?? '127.0.0.1', port: options.port ?? 10809, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error) => reject(new NbdConnectionError('NBD_REFUSED', `no NBD server at ${where}: ${error.message}`, { where }, error)));
    });
    const client = new NbdClient(socket);
    try {
      await client.#handshake(options);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return client;
  }

  async #handshake(options: NbdClientOptions): Promise<void> {
    const hello = await this.#reader.read(Hello.BYTES);
    if (hello.readBigUInt64BE(Hello.PASSWD) !== NBD_MAGIC || hello.readBigUInt64BE(Hello.OPTMAGIC) !== IHAVEOPT) throw protocol('the server does not speak newstyle NBD');
    const flags = hello.readUInt16BE(Hello.FLAGS) & (HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES);
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(flags, 0);
    this.#stream.write(answer);
    if (options.tls === undefined) return;
    await this.#option(Option.STARTTLS, Buffer.alloc(0));
    this.#reader.detach();
    const secure = tls.connect({ ...options.tls, socket: this.#stream });
    await new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve);
      secure.once('error', (error: Error) => reject(new NbdConnectionError('NBD_REFUSED', `TLS failed: ${error.message}`, {}, error)));
    });
    this.#stream = secure;
    this.#reader = new WireReader(secure);
  }

  /** The exports that the server shows. */
  async list(): Promise<{ name: string; description: string }[]> {
    return (await this.#option(Option.LIST, Buffer.alloc(0))).filter((answer) => answer.type === OptionReply.SERVER).map(({ data }) => {
      const length = data.readUInt32BE(0);
      return { name: data.toString('utf8', 4, 4 + length), description: data.toString('utf8', 4 + length) };
    });
  }

  /** Facts of an export, without entering it. */
  async describe(name: string): Promise<NbdExportInfo> {
    return exportInfo(await this.#option(Option.INFO, infoRequest(name)));
  }

  /** Contexts that the server can report for an export. */
  async listContexts(name: string, queries: string[] = []): Promise<string[]> {
    await this.#structuredReplies();
    const answers = await this.#option(Option.LIST_META_CONTEXT, contextRequest(name, queries));
    return answers.filter((answer) => answer.type === OptionReply.META_CONTEXT).map(({ data }) => data.toString('utf8', 4));
  }

  /** Enter the transmission phase. `structured: false`: as an old client would. */
  async go(name: string, options: { structured?: boolean } = {}): Promise<NbdExportInfo> {
    if (options.structured !== false && (await this.#structuredReplies())) {
      const answers = await this.#option(Option.SET_META_CONTEXT, contextRequest(name, [META_BASE_ALLOCATION]));
      this.#context = answers.find((answer) => answer.type === OptionReply.META_CONTEXT)?.data.readUInt32BE(0) ?? null;
    }
    this.info = exportInfo(await this.#option(Option.GO, infoRequest(name)));
    void this.#receive();
    return this.info;
  }

  /** End the haggling without entering an export. */
  async abort(): Promise<void> {
    await this.#option(Option.ABORT, Buffer.alloc(0));
    this.#stream.destroy();
  }

  /** Read `length` (at most 32 MiB) bytes. `df`: in one piece. */
  async read(offset: number, length: number, options: { df?: boolean } = {}): Promise<Buffer> {
    return (await this.#request(Command.READ, options.df === true ? CommandFlag.DF : 0, offset, length, null)).data!;
  }

  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<void> {
    await this.#request(Command.WRITE, options.fua === true ? CommandFlag.FUA : 0, offset, data.length, data);
  }

  async flush(): Promise<void> {
    await this.#request(Command.FLUSH, 0, 0, 0, null);
  }

  async trim(offset: number, length: number, options: { fua?: boolean } = {}): Promise<void> {
    await this.#request(Command.TRIM, options.fua === true ? CommandFlag.FUA : 0, offset, length, null);
  }

  async cache(offset: number, length: number): Promise<void> {
    await this.#request(Command.CACHE, 0, offset, length, null);
  }

  async writeZeroes(offset: number, length: number, options: { fua?: boolean; noHole?: boolean; fast?: boolean } = {}): Promise<void> {
    const flags = (options.fua === true ? CommandFlag.FUA : 0) | (options.noHole === true ? CommandFlag.NO_HOLE : 0) | (options.fast === true ? CommandFlag.FAST_ZERO : 0);
    await this.#request(Command.WRITE_ZEROES, flags, offset, length, null);
  }

  /** Extents from `offset`; may cover less than asked. */
  async blockStatus(offset: number, length: number, options: { one?: boolean } = {}): Promise<NbdExtent[]> {
    return (await this.#request(Command.BLOCK_STATUS, options.one === true ? CommandFlag.REQ_ONE : 0, offset, length, null)).extents;
  }

  /** Any request at all, for tests of what a server refuses. */
  async raw(command: number, flags: number, offset: number, length: number, payload: Uint8Array | null = null): Promise<void> {
    await this.#request(command, flags, offset, length, payload);
  }

  /** Say goodbye and close. Requests in flight fail. */
  async close(): Promise<void> {
    if (this.#closed === null && this.info !== null) this.#send(Command.DISC, 0, 0n, 0, 0, null);
    const gone = new Promise<void>((resolve) => { this.#stream.once('close', resolve); });
    this.#stream.end(() => this.#stream.destroy());
    if (!this.#stream.destroyed) await gone;
  }

  /** Close as a client that dies does. */
  destroy(): void {
    this.#stream.destroy();
  }

  async #structuredReplies(): Promise<boolean> {
    if (!this.#structured) {
      await this.#option(Option.STRUCTURED_REPLY, Buffer.alloc(0));
      this.#structured = true;
    }
    return true;
  }

  async #option(option: number, data: Buffer): Promise<OptionAnswer[]> {
    const header = Buffer.alloc(OptionHeader.BYTES);
    header.writeBigUInt64BE(IHAVEOPT, OptionHeader.MAGIC);
    header.writeUInt32BE(option, OptionHeader.OPTION);
    header.writeUInt32BE(data.length, OptionHeader.LENGTH);
    this.#stream.write(Buffer.concat([header, data]));
    const answers: OptionAnswer[] = [];
    for (;;) {
      const reply = await this.#reader.read(OptionReplyHeader.BYTES);
      if (reply.readBigUInt64BE(OptionReplyHeader.MAGIC) !== NBD_REP_MAGIC || reply.readUInt32BE(OptionReplyHeader.OPTION) !== option) {
        throw protocol(`the answer to ${optionName(option)} is none`);
      }
      const length = reply.readUInt32BE(OptionReplyHeader.LENGTH);
      if (length > MAX_PAYLOAD) throw protocol(`the answer to ${optionName(option)} has ${length} bytes`);
      const type = reply.readUInt32BE(OptionReplyHeader.TYPE);
      const body = await this.#reader.read(length);
      if (type >= OptionReply.ERR_UNSUP - 1) {
        throw new NbdConnectionError('NBD_REFUSED', `the server refused ${optionName(option)}: ${body.toString() || 'no reason given'}`, { option: optionName(option), reply: type });
      }
      if (type === OptionReply.ACK) return answers;
      answers.push({ type, data: body });
    }
  }

  #request(command: number, flags: number, offset: number, length: number, payload: Uint8Array | null): Promise<Pending> {
    if (this.#closed !== null) return Promise.reject(this.#closed);
    return new Promise((resolve, reject) => {
      const cookie = this.#next++;
      const pending: Pending = {
        command, offset, length, data: command === Command.READ ? Buffer.alloc(Math.min(length, MAX_PAYLOAD)) : null, extents: [], error: null, resolve: () => resolve(pending), reject,
      };
      this.#pending.set(cookie, pending);
      this.#send(command, flags, cookie, offset, length, payload);
    });
  }

  #send(command: number, flags: number, cookie: bigint, offset: number, length: number, payload: Uint8Array | null): void {
    const header = Buffer.alloc(Request.BYTES);
    header.writeUInt32BE(NBD_REQUEST_MAGIC, Request.MAGIC);
    header.writeUInt16BE(flags, Request.FLAGS);
    header.writeUInt16BE(command, Request.TYPE);
    header.writeBigUInt64BE(cookie, Request.COOKIE);
    header.writeBigUInt64BE(BigInt(offset), Request.OFFSET);
    header.writeUInt32BE(length, Request.LENGTH);
    this.#stream.cork();
    this.#stream.write(header);
    if (payload !== null) this.#stream.write(payload);
    this.#stream.uncork();
  }

  async #receive(): Promise<void> {
    try {
      for (;;) await this.#reply();
    } catch (error) {
      this.#closed = error as Error;
      this.#stream.destroy();
      for (const pending of this.#pending.values()) pending.reject(error);
      this.#pending.clear();
    }
  }

  async #reply(): Promise<void> {
    const head = await this.#reader.read(SimpleReply.BYTES);
    const cookie = head.readBigUInt64BE(SimpleReply.COOKIE);
    const pending = this.#pending.get(cookie);
    if (pending === undefined) throw protocol('a reply to no request of ours');
    const magic = head.readUInt32BE(SimpleReply.MAGIC);
    let done = true;
    if (magic === NBD_SIMPLE_REPLY_MAGIC) {
      const error = head.readUInt32BE(SimpleReply.ERROR);
      if (error !== 0) pending.error = failure(pending, error, '');
      else if (pending.data !== null) {
        if (this.#structured) throw protocol('a simple reply to READ though structured replies were agreed');
        (await this.#reader.read(pending.length)).copy(pending.data);
      }
    } else if (magic === NBD_STRUCTURED_REPLY_MAGIC && this.#structured) {
      const length = (await this.#reader.read(4)).readUInt32BE(0);
      if (length > MAX_PAYLOAD + 8) throw protocol(`a chunk of ${length} bytes`);
      this.#chunk(pending, head.readUInt16BE(Chunk.TYPE), await this.#reader.read(length));
      done = (head.readUInt16BE(Chunk.FLAGS) & ReplyFlag.DONE) !== 0;
    } else throw protocol(`a reply began with magic ${magic.toString(16)}`);
    if (!done) return;
    this.#pending.delete(cookie);
    if (pending.error !== null) pending.reject(pending.error);
    else pending.resolve();
  }

  #chunk(pending: Pending, type: number, payload: Buffer): void {
    if ((type & REPLY_TYPE_ERROR_BIT) !== 0) {
      pending.error = failure(pending, payload.readUInt32BE(0), payload.toString('utf8', 6, 6 + payload.readUInt16BE(4)));
    } else if (type === ReplyType.OFFSET_DATA || type === ReplyType.OFFSET_HOLE) {
      const at = Number(payload.readBigUInt64BE(0)) - pending.offset;
      const hole = type === ReplyType.OFFSET_HOLE;
      const length = hole ? payload.readUInt32BE(8) : payload.length - 8;
      if (pending.data === null || at < 0 || at + length > pending.length) throw protocol('a chunk outside the range that was read');
      if (hole) pending.data.fill(0, at, at + length);
      else payload.copy(pending.data, at, 8);
    } else if (type === ReplyType.BLOCK_STATUS && pending.command === Command.BLOCK_STATUS && payload.readUInt32BE(0) === this.#context) {
      for (let at = 4; at + 8 <= payload.length; at += 8) {
        const state = payload.readUInt32BE(at + 4);
        pending.extents.push({ length: payload.readUInt32BE(at), hole: (state & BlockState.HOLE) !== 0, zero: (state & BlockState.ZERO) !== 0 });
      }
    } else if (type !== ReplyType.NONE) throw protocol(`an unexpected chunk of type ${type}`);
  }
}

/** True when the server lets several connections share one export safely. */
export function canMultiConn(info: NbdExportInfo): boolean {
  return (info.flags & TransmissionFlag.CAN_MULTI_CONN) !== 0;
}

function protocol(message: string): NbdConnectionError {
  return new NbdConnectionError('NBD_PROTOCOL', `the NBD server broke the protocol: ${message}`);
}

function failure(pending: Pending, error: number, message: string): NbdRequestError {
  const what = `${commandName(pending.command)} of ${pending.length} bytes at ${pending.offset} failed${message === '' ? '' : ` (${message})`}`;
  return new NbdRequestError(error, what, { offset: pending.offset, length: pending.length });
}

function infoRequest(name: string): Buffer {
  const text = Buffer.from(name);
  const wanted = [Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE];
  const data = Buffer.alloc(6 + text.length + 2 * wanted.length);
  data.writeUInt32BE(text.length, 0);
  text.copy(data, 4);
  data.writeUInt16BE(wanted.length, 4 + text.length);
  wanted.forEach((info, i) => { data.writeUInt16BE(info, 6 + text.length + 2 * i); });
  return data;
}

function contextRequest(name: string, queries: string[]): Buffer {
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value, 0);
    return bytes;
  };
  const string = (text: string): Buffer[] => [number(Buffer.byteLength(text)), Buffer.from(text)];
  return Buffer.concat([...string(name), number(queries.length), ...queries.flatMap(string)]);
}

function exportInfo(answers: OptionAnswer[]): NbdExportInfo {
  const facts = new Map(answers.filter((answer) => answer.type === OptionReply.INFO).map(({ data }) => [data.readUInt16BE(0), data]));
  const main = facts.get(Info.EXPORT);
  if (main === undefined) throw protocol('no NBD_INFO_EXPORT');
  const sizes = facts.get(Info.BLOCK_SIZE);
  return {
    size: Number(main.readBigUInt64BE(2)),
    flags: main.readUInt16BE(10),
    name: facts.get(Info.NAME)?.toString('utf8', 2),
    description: facts.get(Info.DESCRIPTION)?.toString('utf8', 2),
    blockSize: sizes && { minimum: sizes.readUInt32BE(2), preferred: sizes.readUInt32BE(6), maximumPayload: sizes.readUInt32BE(10) },
  };
}
