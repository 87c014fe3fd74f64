/** The blocks of an extent tree, read in runs and ahead of use. */
import { Block } from '../format/block.js';
import type { ExtentRecord, RawReader } from '../inspect/raw-reader.js';
import { ahead } from './in-flight.js';

const RUN_BYTES = 128 << 10;
const RUNS_AHEAD = 3;

/** The first `limit` blocks of these extents, in order, unchecked; `onRecord` sees each record first. Holes are left out. */
export async function* blocksAhead(
  reader: RawReader, extents: AsyncIterable<ExtentRecord>, limit: number, onRecord: (rec: ExtentRecord) => void,
): AsyncGenerator<Block> {
  const { geo } = reader;
  for await (const { loaded } of ahead(runs(reader, extents, limit, onRecord), RUNS_AHEAD, (run) => reader.readRaw(run.blkno, run.count))) {
    const raw = await loaded;
    for (let at = 0; at < raw.bytes.length; at += geo.blockSize) yield new Block(raw.device, raw.blkno + at / geo.blockSize, raw.bytes.subarray(at, at + geo.blockSize));
  }
}

async function* runs(
  { geo }: RawReader, extents: AsyncIterable<ExtentRecord>, limit: number, onRecord: (rec: ExtentRecord) => void,
): AsyncGenerator<{ blkno: number; count: number }> {
  const perRun = Math.max(1, RUN_BYTES / geo.blockSize);
  let left = limit;
  for await (const rec of extents) {
    onRecord(rec);
    const blocks = Math.min(left, rec.clusters * geo.bpc);
    for (let i = 0; i < blocks; i += perRun) yield { blkno: rec.blkno + i, count: Math.min(perRun, blocks - i) };
    left -= blocks;
    if (left <= 0) return;
  }
}
