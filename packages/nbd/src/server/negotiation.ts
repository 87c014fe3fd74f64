/**
 * The fixed newstyle handshake and option haggling: a state machine without I/O. Bytes of the client go in, steps come
 * out, in order. A client that breaks the protocol gets the specification's answer or loses its connection.
 *
 * With TLS configured, nothing but STARTTLS and ABORT is answered before the upgrade (FORCEDTLS), and bytes that follow
 * STARTTLS in the clear end the connection: they could be an attacker's, to be taken for the client's after the upgrade.
 */
import {
  ExportNameReply, HandshakeFlag, Hello, IHAVEOPT, Info, MAX_OPTION, MAX_PAYLOAD, MAX_STRING, META_BASE_ALLOCATION, MINIMUM_BLOCK, NBD_MAGIC,
  NBD_REP_MAGIC, Option, OptionHeader, OptionReply, OptionReplyHeader, PREFERRED_BLOCK, optionName,
} from '../protocol.js';
import { transmissionFlags, type ExportOptions, type ExportTable } from './exports.js';
import { ALLOCATION_CONTEXT } from './transmission.js';

/** Where the transmission phase begins. */
export interface Granted {
  readonly export: ExportOptions;
  readonly size: number;
  readonly readOnly: boolean;
  readonly structured: boolean;
  readonly allocationContext: boolean;
  /** What the client sent beyond its last option: requests already. */
  readonly rest: Buffer;
}

export type Step =
  | { readonly kind: 'send'; readonly bytes: Buffer }
  | { readonly kind: 'tls' }
  | { readonly kind: 'go'; readonly granted: Granted }
  /** End the connection; `violation` says what the client did wrong, null when it asked for the end. */
  | { readonly kind: 'close'; readonly violation: string | null };

export interface NegotiationOptions {
  readonly exports: ExportTable;
  /** TLS is configured: the client must upgrade. */
  readonly tls: boolean;
}

const FLAGS_WAITED = 0;
const OPTIONS = 1;
const DONE = 2;
const CLIENT_FLAG_BYTES = 4;
const KNOWN_CLIENT_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES;

export class Negotiation {
  #state = FLAGS_WAITED;
  #buffer: Buffer = Buffer.alloc(0);
  #fixed = false;
  #noZeroes = false;
  #secure = false;
  #structured = false;
  /** Export for which `base:allocation` was selected last. */
  #contextOf: string | null = null;
  #steps: Step[] = [];

  constructor(readonly options: NegotiationOptions) {}

  /** The server's first words. */
  hello(): Buffer {
    const bytes = Buffer.alloc(Hello.BYTES);
    bytes.writeBigUInt64BE(NBD_MAGIC, Hello.PASSWD);
    bytes.writeBigUInt64BE(IHAVEOPT, Hello.OPTMAGIC);
    bytes.writeUInt16BE(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES, Hello.FLAGS);
    return bytes;
  }

  /** The upgrade has succeeded: what was negotiated in the clear is forgotten. */
  secured(): void {
    this.#secure = true;
    this.#structured = false;
    this.#contextOf = null;
  }

  /** Bytes of the client. After a `tls`, `go` or `close` step no more may be given until `secured`. */
  receive(bytes: Uint8Array): Step[] {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    this.#steps = [];
    while (this.#state !== DONE && this.#advance());
    return this.#steps;
  }

  #advance(): boolean {
    if (this.#state === FLAGS_WAITED) return this.#clientFlags();
    if (this.#buffer.length < OptionHeader.BYTES) return false;
    if (this.#buffer.readBigUInt64BE(OptionHeader.MAGIC) !== IHAVEOPT) return this.#close('an option began with a wrong magic number');
    const option = this.#buffer.readUInt32BE(OptionHeader.OPTION);
    const length = this.#buffer.readUInt32BE(OptionHeader.LENGTH);
    if (length > MAX_OPTION) return this.#close(`${optionName(option)} carries ${length} bytes, more than any option needs`);
    if (this.#buffer.length < OptionHeader.BYTES + length) return false;
    const data = this.#buffer.subarray(OptionHeader.BYTES, OptionHeader.BYTES + length);
    this.#buffer = this.#buffer.subarray(OptionHeader.BYTES + length);
    return this.#option(option, data);
  }

  #clientFlags(): boolean {
    if (this.#buffer.length < CLIENT_FLAG_BYTES) return false;
    const flags = this.#buffer.readUInt32BE(0);
    if ((flags & ~KNOWN_CLIENT_FLAGS) !== 0) return this.#close(`unknown client flags ${flags}`);
    this.#fixed = (flags & HandshakeFlag.FIXED_NEWSTYLE) !== 0;
    this.#noZeroes = (flags & HandshakeFlag.NO_ZEROES) !== 0;
    this.#buffer = this.#buffer.subarray(CLIENT_FLAG_BYTES);
    this.#state = OPTIONS;
    return true;
  }

  /** True: look for the next option. */
  #option(option: number, data: Buffer): boolean {
    if (!this.#fixed && option !== Option.EXPORT_NAME) return this.#close(`${optionName(option)} without fixed newstyle`);
    if (this.options.tls && !this.#secure && option !== Option.STARTTLS && option !== Option.ABORT) {
      if (option === Option.EXPORT_NAME) return this.#close('EXPORT_NAME without TLS, which this server requires');
      return this.#refuse(option, OptionReply.ERR_TLS_REQD, 'this server requires TLS');
    }
    switch (option) {
      case Option.EXPORT_NAME: return this.#exportName(data);
      case Option.ABORT:
        this.#reply(option, OptionReply.ACK);
        return this.#close(null);
      case Option.LIST: return this.#list(data);
      case Option.STARTTLS: return this.#startTls(data);
      case Option.INFO: case Option.GO: return this.#info(option, data);
      case Option.STRUCTURED_REPLY:
        if (data.length > 0) return this.#refuse(option, OptionReply.ERR_INVALID, 'STRUCTURED_REPLY carries no data');
        this.#structured = true;
        return this.#reply(option, OptionReply.ACK);
      case Option.LIST_META_CONTEXT: case Option.SET_META_CONTEXT: return this.#metaContext(option, data);
      default: return this.#refuse(option, OptionReply.ERR_UNSUP, `${optionName(option)} is not known here`);
    }
  }

  #exportName(data: Buffer): boolean {
    const found = this.options.exports.find(data.toString());
    if (found === undefined) return this.#close('EXPORT_NAME of an export that does not exist');
    const bytes = Buffer.alloc(ExportNameReply.BYTES + (this.#noZeroes ? 0 : ExportNameReply.PADDING));
    bytes.writeBigUInt64BE(BigInt(found.backend.size), ExportNameReply.SIZE);
    bytes.writeUInt16BE(transmissionFlags(found, this.#structured), ExportNameReply.FLAGS);
    this.#steps.push({ kind: 'send', bytes });
    return this.#go(found, found.backend.size);
  }

  #list(data: Buffer): boolean {
    if (data.length > 0) return this.#refuse(Option.LIST, OptionReply.ERR_INVALID, 'LIST carries no data');
    for (const { name, description } of this.options.exports.all()) {
      this.#reply(Option.LIST, OptionReply.SERVER, Buffer.concat([counted(name), Buffer.from(description ?? '')]));
    }
    return this.#reply(Option.LIST, OptionReply.ACK);
  }

  #startTls(data: Buffer): boolean {
    if (!this.options.tls) return this.#refuse(Option.STARTTLS, OptionReply.ERR_POLICY, 'this server has no TLS configured');
    if (data.length > 0 || this.#secure) return this.#refuse(Option.STARTTLS, OptionReply.ERR_INVALID, 'STARTTLS carries no data and is sent once');
    if (this.#buffer.length > 0) return this.#close('data in the clear after STARTTLS');
    this.#reply(Option.STARTTLS, OptionReply.ACK);
    this.#steps.push({ kind: 'tls' });
    return false;
  }

  #info(option: number, data: Buffer): boolean {
    const nameLength = data.length >= 6 ? data.readUInt32BE(0) : Number.POSITIVE_INFINITY;
    if (nameLength > Math.min(data.length - 6, MAX_STRING)) return this.#refuse(option, OptionReply.ERR_INVALID, 'the name is longer than the option');
    const count = data.readUInt16BE(4 + nameLength);
    if (data.length !== 6 + nameLength + 2 * count) return this.#refuse(option, OptionReply.ERR_INVALID, 'the list of information requests has another length');
    const found = this.options.exports.find(data.toString('utf8', 4, 4 + nameLength));
    if (found === undefined) return this.#refuse(option, OptionReply.ERR_UNKNOWN, 'there is no export of this name');
    const wanted = new Set(Array.from({ length: count }, (_, i) => data.readUInt16BE(6 + nameLength + 2 * i)));
    const { size } = found.backend;
    const facts = Buffer.alloc(12);
    facts.writeUInt16BE(Info.EXPORT, 0);
    facts.writeBigUInt64BE(BigInt(size), 2);
    facts.writeUInt16BE(transmissionFlags(found, this.#structured), 10);
    this.#reply(option, OptionReply.INFO, facts);
    if (wanted.has(Info.NAME)) this.#reply(option, OptionReply.INFO, tagged(Info.NAME, found.name));
    if (wanted.has(Info.DESCRIPTION) && found.description !== undefined) this.#reply(option, OptionReply.INFO, tagged(Info.DESCRIPTION, found.description));
    if (wanted.has(Info.BLOCK_SIZE)) {
      const sizes = Buffer.alloc(14);
      sizes.writeUInt16BE(Info.BLOCK_SIZE, 0);
      sizes.writeUInt32BE(MINIMUM_BLOCK, 2);
      sizes.writeUInt32BE(PREFERRED_BLOCK, 6);
      sizes.writeUInt32BE(MAX_PAYLOAD, 10);
      this.#reply(option, OptionReply.INFO, sizes);
    }
    this.#reply(option, OptionReply.ACK);
    return option === Option.INFO ? true : this.#go(found, size);
  }

  #metaContext(option: number, data: Buffer): boolean {
    const set = option === Option.SET_META_CONTEXT;
    if (set) this.#contextOf = null;
    if (!this.#structured) return this.#refuse(option, OptionReply.ERR_INVALID, 'metadata contexts need structured replies');
    const strings = metaQueries(data);
    if (strings === null) return this.#refuse(option, OptionReply.ERR_INVALID, 'the queries do not fit the option');
    const found = this.options.exports.find(strings.name);
    if (found === undefined) return this.#refuse(option, OptionReply.ERR_UNKNOWN, 'there is no export of this name');
    const { queries } = strings;
    const wildcard = !set && (queries.length === 0 || queries.includes('base:'));
    if (wildcard || queries.includes(META_BASE_ALLOCATION)) {
      const id = Buffer.alloc(4);
      id.writeUInt32BE(set ? ALLOCATION_CONTEXT : 0, 0);
      this.#reply(option, OptionReply.META_CONTEXT, Buffer.concat([id, Buffer.from(META_BASE_ALLOCATION)]));
      if (set) this.#contextOf = found.name;
    }
    return this.#reply(option, OptionReply.ACK);
  }

  #go(found: ExportOptions, size: number): boolean {
    const granted: Granted = {
      export: found, size, readOnly: found.backend.readOnly, structured: this.#structured, allocationContext: this.#contextOf === found.name, rest: this.#buffer,
    };
    this.#steps.push({ kind: 'go', granted });
    this.#state = DONE;
    return false;
  }

  #close(violation: string | null): boolean {
    this.#steps.push({ kind: 'close', violation });
    this.#state = DONE;
    return false;
  }

  #refuse(option: number, type: number, message: string): boolean {
    return this.#reply(option, type, Buffer.from(message));
  }

  #reply(option: number, type: number, data: Buffer = Buffer.alloc(0)): boolean {
    const header = Buffer.alloc(OptionReplyHeader.BYTES);
    header.writeBigUInt64BE(NBD_REP_MAGIC, OptionReplyHeader.MAGIC);
    header.writeUInt32BE(option, OptionReplyHeader.OPTION);
    header.writeUInt32BE(type, OptionReplyHeader.TYPE);
    header.writeUInt32BE(data.length, OptionReplyHeader.LENGTH);
    this.#steps.push({ kind: 'send', bytes: Buffer.concat([header, data]) });
    return true;
  }
}

function counted(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text), 0);
  return Buffer.concat([length, Buffer.from(text)]);
}

function tagged(info: number, text: string): Buffer {
  const tag = Buffer.alloc(2);
  tag.writeUInt16BE(info, 0);
  return Buffer.concat([tag, Buffer.from(text)]);
}

/** Export name and queries of LIST_META_CONTEXT and SET_META_CONTEXT, or null when they do not fill the option exactly. */
function metaQueries(data: Buffer): { name: string; queries: string[] } | null {
  let at = 0;
  const number = (): number | null => {
    if (at + 4 > data.length) return null;
    at += 4;
    return data.readUInt32BE(at - 4);
  };
  const string = (): string | null => {
    const length = number();
    if (length === null || length > Math.min(MAX_STRING, data.length - at)) return null;
    at += length;
    return data.toString('utf8', at - length, at);
  };
  const name = string();
  const count = name === null ? null : number();
  if (name === null || count === null) return null;
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    const query = string();
    if (query === null) return null;
    queries.push(query);
  }
  return at === data.length ? { name, queries } : null;
}
