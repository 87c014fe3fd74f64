/**
 * A file of a mounted volume behind the `FileBackend` port: what an NBD export, an open file of the mount, or our own
 * copying does I/O through. All users of one inode share one gate, so a recall reaches them all.
 *
 * What a write acknowledged by a *surviving* backend stands on (docs/design.md, section 2, "Acknowledged means survived"):
 *  - data is handed to the device before `write` resolves, by us or by a worker inside a mapping;
 *  - the extents it lies in, whoever allocated or converted them, are in the journal: `write` and `map` for writing both
 *    wait for a commit (of this process's death, not of the machine's: no flush is waited for) before they answer. An extent
 *    that is mapped goes only by way of a recall, so one commit per mapping is enough for all writes through it.
 * Mounts of buffered files promise that at fsync only, as every file system does: their backends do not survive by themselves.
 */
import { type Fence, type FileBackend, Gate, NO_FENCE, type MappedRun, type RangeStatus, UsageError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import { PR } from '../locking/levels.js';
import { fileStatus, mapRange } from './file-map.js';
import { readFile } from './file-read.js';
import { punchHole, zeroRange } from './file-space.js';
import { noteInPlaceWrite, registerGate } from './file-state.js';
import { writeFile } from './file-write.js';

/** Ranges up to this size are zeroed by writing: cheaper than changing the mapping, which every worker would have to ask for again. */
const ZEROES_WRITTEN_MAX = 1 << 20;

/** How data workers reach the device themselves. */
export interface DirectAccess {
  readonly fd: number;
  /** Bytes: offsets, lengths and memory must be multiples. */
  readonly alignment: number;
  /** Until when they may. Default: for ever. */
  readonly fence?: Fence;
}

export interface BackendOptions {
  readonly readOnly: boolean;
  /** Acknowledged writes survive the death of this process. */
  readonly survives: boolean;
  /** TRIM and WRITE_ZEROES keep the space (thick disks stay thick). Default false. */
  readonly keepSpace?: boolean;
  /** Awaited after each change made through this backend on the main thread and before it is acknowledged: other caches are dropped here. */
  readonly changed?: (offset: number, length: number) => Promise<void>;
}

/**
 * An inode in use by data paths: its gate, and the backends of its users. The gate is made, and recalls go through it, before the
 * first mapping by it is asked for; most files are closed before anybody does.
 */
export class SharedFile {
  #made: { readonly gate: Gate; readonly unregister: () => void } | undefined;
  #size = 0;

  constructor(readonly ctx: FsContext, readonly ino: number, readonly access: DirectAccess | undefined) {}

  get gate(): Gate {
    if (this.#made === undefined) {
      const gate = Gate.under(this.access?.fence ?? NO_FENCE);
      this.#made = { gate, unregister: registerGate(this.ctx, this.ino, gate) };
    }
    return this.#made.gate;
  }

  /** Somebody has asked for the gate: there may be mappings. */
  get gated(): boolean {
    return this.#made !== undefined;
  }

  /** i_size; the last one known when the dinode is not cached at the moment. */
  get size(): number {
    try {
      this.#size = this.ctx.engine.readNow('size', (op) => this.ctx.inode(op, this.ino, PR).di.size) ?? this.#size;
    } catch {
      // The engine has dealt with it; the request that wanted the size will meet the same error.
    }
    return this.#size;
  }

  /** Learn the size, so that `size` is right from now on. Throws what reading the dinode throws. */
  async load(): Promise<void> {
    this.#size = await this.ctx.engine.read('size', (op) => this.ctx.inode(op, this.ino, PR).di.size);
  }

  backend(options: BackendOptions): FileBackend {
    return new VolumeFileBackend(this, options);
  }

  /** Nobody uses the inode any more. Resolves when no I/O by its mappings is in flight. */
  async close(): Promise<void> {
    if (this.#made === undefined) return;
    await this.#made.gate.recall();
    this.#made.unregister();
  }
}

class VolumeFileBackend implements FileBackend {
  #direct: FileBackend['direct'];
  /** Workers have a mapping for writing: they may have written since. */
  #mayHaveWritten = false;

  constructor(private readonly file: SharedFile, private readonly options: BackendOptions) {}

  get direct(): FileBackend['direct'] {
    const { access } = this.file;
    return access && (this.#direct ??= { ...access, gate: this.file.gate });
  }

  get size(): number {
    return this.file.size;
  }

  get readOnly(): boolean {
    return this.options.readOnly;
  }

  async map(offset: number, length: number, write: boolean, limit: number): Promise<{ epoch: number; runs: MappedRun[] }> {
    const { ctx, ino, gate } = this.file;
    if (write) this.#checkWritable();
    const answer = await mapRange(ctx, ino, offset, length, write, limit, gate);
    if (write && answer.runs.length > 0) {
      if (this.options.survives) await ctx.engine.log.commit({ durable: false });
      this.#mayHaveWritten = true;
    }
    return answer;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.#checkRange(offset, into.length);
    const { ctx, ino } = this.file;
    const got = await readFile(ctx, ino, offset, into);
    into.fill(0, got); // the file was cut meanwhile
  }

  async write(offset: number, from: Uint8Array, fua: boolean): Promise<void> {
    this.#checkWritable();
    this.#checkRange(offset, from.length);
    const { ctx, ino } = this.file;
    await writeFile(ctx, ino, offset, from);
    await this.#acknowledge(offset, from.length, fua);
  }

  async flush(): Promise<void> {
    if (this.options.readOnly) return;
    const { ctx, ino } = this.file;
    if (this.#mayHaveWritten) {
      // Times are a courtesy: they must not fail a flush, and on a volume that became read-only they would.
      await noteInPlaceWrite(ctx, ino).catch(() => undefined);
    }
    await ctx.engine.log.commit({ barrier: true });
  }

  async trim(offset: number, length: number): Promise<void> {
    this.#checkWritable();
    this.#checkRange(offset, length);
    const { ctx, ino } = this.file;
    // A hint: volumes without holes keep the space.
    if (this.options.keepSpace || length === 0 || !ctx.geo.sparse || !ctx.geo.unwritten) return;
    await punchHole(ctx, ino, offset, length);
    await this.#acknowledge(offset, length, false);
  }

  async writeZeroes(offset: number, length: number, punch: boolean, fua: boolean): Promise<void> {
    this.#checkWritable();
    this.#checkRange(offset, length);
    if (length === 0) return;
    const { ctx, ino } = this.file;
    const { sparse, unwritten } = ctx.geo;
    if (punch && !this.options.keepSpace && sparse && unwritten) await punchHole(ctx, ino, offset, length);
    else if (length <= ZEROES_WRITTEN_MAX || !sparse || !unwritten) await this.#writeZeroData(offset, length);
    else await zeroRange(ctx, ino, offset, length, true);
    await this.#acknowledge(offset, length, fua);
  }

  async status(offset: number, length: number, limit: number): Promise<RangeStatus[]> {
    this.#checkRange(offset, length);
    return fileStatus(this.file.ctx, this.file.ino, offset, length, limit);
  }

  /** The gate and the reference to the inode are the owner's (SharedFile.close). */
  async close(): Promise<void> {}

  async #writeZeroData(offset: number, length: number): Promise<void> {
    const { ctx, ino } = this.file;
    const zeroes = new Uint8Array(Math.min(length, ZEROES_WRITTEN_MAX));
    for (let done = 0; done < length; done += zeroes.length) await writeFile(ctx, ino, offset + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)));
  }

  async #acknowledge(offset: number, length: number, fua: boolean): Promise<void> {
    await this.options.changed?.(offset, length);
    if (fua) await this.file.ctx.engine.log.commit({ barrier: true });
    else if (this.options.survives) await this.file.ctx.engine.log.commit({ durable: false });
  }

  #checkWritable(): void {
    if (this.options.readOnly) throw this.#refuse('FILE_READ_ONLY', 'EROFS', 'is served read-only');
  }

  #checkRange(offset: number, length: number): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.size) return;
    throw this.#refuse('BAD_RANGE', 'EINVAL', `ends at byte ${this.size}, the request at ${offset + length}`);
  }

  #refuse(code: string, errno: 'EROFS' | 'EINVAL', why: string): UsageError {
    const { ctx, ino } = this.file;
    return new UsageError(code, errno, `${ctx.geo.device}: inode ${ino} ${why}`, { device: ctx.geo.device, inode: ino });
  }
}
