/**
 * The owner's side of a request: everything a data worker may not or cannot do itself, done on the thread of the
 * FileBackend. Requests and replies are plain messages; the payload is in the connection's memory.
 *
 * FLUSH. It must cover every write acknowledged on any connection of the export. Such a write was either made by the
 * owner, whose `flush` covers it by the port's contract, or by a data worker, which acknowledges only after its pwrite
 * on the O_DIRECT descriptor has returned: the data is with the device then, on which `flush` ends. So `backend.flush()`
 * alone is enough, whichever connection asks, and CAN_MULTI_CONN may be said of an export whose backend is one object.
 */
import type { FileBackend } from '@lunfs/device';
import { wireErrno, wireMessage } from '../errors.js';
import { BlockState, Command, CommandFlag, NbdErrno } from '../protocol.js';

export interface OwnerRequest {
  /** Index of the slot that waits; comes back in the reply. */
  readonly slot: number;
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Where the slot's payload lies in the connection's memory. */
  readonly at: number;
  /** A READ may answer zeros as pieces instead of bytes. */
  readonly sparse: boolean;
  /** The worker would like to know the mapping from `offset` on. */
  readonly wantRuns: boolean;
}

export interface OwnerReply {
  readonly slot: number;
  /** NbdErrno or 0. */
  readonly error: number;
  readonly message?: string;
  /** Runs as triples offset, length, device, valid in `epoch`; `writable`: asked for writing. */
  readonly runs?: Float64Array;
  readonly epoch?: number;
  readonly writable?: boolean;
  /** READ: lengths of consecutive pieces, data first, then zeros, alternating; absent: all data. BLOCK_STATUS: pairs length, state. */
  readonly pieces?: number[];
}

/** What an export promises beyond its backend. */
export interface OwnerPromises {
  /** `writeZeroes` that may punch costs less than writing the range: FAST_ZERO is accepted. */
  readonly fastZero: boolean;
}

/** Runs that one miss brings along. */
const RUNS_AHEAD = 256;
/** Pieces of one sparse READ: their headers share a page. */
export const READ_PIECES = 64;
/** Extents of one BLOCK_STATUS; the client asks on from where they end. */
export const STATUS_EXTENTS = 4096;

/** Carry out one request. Never rejects: a backend's error is the reply's. `memory` is the connection's memory. */
export async function serve(backend: FileBackend, promises: OwnerPromises, request: OwnerRequest, memory: Uint8Array): Promise<OwnerReply> {
  const { slot } = request;
  let reply: OwnerReply;
  try {
    reply = await perform(backend, promises, request, memory);
  } catch (error) {
    return { slot, error: wireErrno(error), message: wireMessage(error) };
  }
  // A READ that met no data (its only piece is zeros) shows that there is nothing to map here.
  const nothing = request.command === Command.READ && reply.pieces?.length === 2 && reply.pieces[0] === 0;
  if (!request.wantRuns || reply.error !== 0 || nothing) return reply;
  const write = request.command === Command.WRITE;
  // The mapping is a favour to later requests: this one is done, so an error here is not its error.
  const mapping = await backend.map(request.offset, backend.size - request.offset, write, RUNS_AHEAD).catch(() => null);
  if (mapping === null) return reply;
  const runs = new Float64Array(mapping.runs.length * 3);
  mapping.runs.forEach((run, i) => { runs.set([run.offset, run.length, run.device], 3 * i); });
  return { ...reply, runs, epoch: mapping.epoch, writable: write };
}

async function perform(backend: FileBackend, promises: OwnerPromises, request: OwnerRequest, memory: Uint8Array): Promise<OwnerReply> {
  const { slot, command, flags, offset, length, at } = request;
  const fua = (flags & CommandFlag.FUA) !== 0;
  switch (command) {
    case Command.READ:
      if (request.sparse) return { slot, error: 0, pieces: await readSparse(backend, offset, memory.subarray(at, at + length)) };
      await backend.read(offset, memory.subarray(at, at + length));
      break;
    case Command.WRITE:
      await backend.write(offset, memory.subarray(at, at + length), fua);
      break;
    case Command.FLUSH:
      await backend.flush();
      break;
    case Command.TRIM:
      await backend.trim(offset, length);
      if (fua) await backend.flush();
      break;
    case Command.WRITE_ZEROES: {
      const punch = (flags & CommandFlag.NO_HOLE) === 0;
      if ((flags & CommandFlag.FAST_ZERO) !== 0 && !(punch && promises.fastZero)) {
        return { slot, error: NbdErrno.ENOTSUP, message: 'zeroing this range would be no faster than writing it' };
      }
      await backend.writeZeroes(offset, length, punch, fua);
      break;
    }
    case Command.BLOCK_STATUS:
      return { slot, error: 0, pieces: await blockStatus(backend, offset, length, (flags & CommandFlag.REQ_ONE) !== 0 ? 1 : STATUS_EXTENTS) };
    default: // CACHE: the mapping that goes with the reply is all that can be had in advance
      break;
  }
  return { slot, error: 0 };
}

/** Reads the data of a range and answers its pieces: data, zeros, data, ... as lengths that add up to the range's. */
async function readSparse(backend: FileBackend, offset: number, into: Uint8Array): Promise<number[]> {
  const pieces = [0];
  let done = 0;
  const grow = (length: number, zero: boolean): void => {
    if ((pieces.length % 2 === 0) === zero) pieces[pieces.length - 1] += length;
    else pieces.push(length);
    done += length;
  };
  for (const part of await backend.status(offset, into.length, READ_PIECES - 2)) {
    grow(Math.min(part.offset + part.length, offset + into.length) - (offset + done), part.kind !== 'data');
    if (done >= into.length) break;
  }
  if (done < into.length) grow(into.length - done, false);
  for (let i = 0, from = 0; i < pieces.length; from += pieces[i], i++) {
    if (i % 2 === 0 && pieces[i] > 0) await backend.read(offset + from, into.subarray(from, from + pieces[i]));
  }
  return pieces;
}

/** Pairs length, state of consecutive extents from `offset`, neighbours of one state joined, nothing beyond the range. */
async function blockStatus(backend: FileBackend, offset: number, length: number, limit: number): Promise<number[]> {
  const pieces: number[] = [];
  let at = offset;
  for (const part of await backend.status(offset, length, limit)) {
    const end = Math.min(part.offset + part.length, offset + length);
    if (end <= at) continue;
    const state = part.kind === 'hole' ? BlockState.HOLE | BlockState.ZERO : part.kind === 'zero' ? BlockState.ZERO : 0;
    if (pieces.length > 0 && pieces[pieces.length - 1] === state) pieces[pieces.length - 2] += end - at;
    else pieces.push(end - at, state);
    at = end;
  }
  return pieces.length > 0 ? pieces : [length, 0];
}
