/** crc32_le as Linux's o2cb uses it, over heartbeat blocks and for their message keys (cluster-protocols.md 2.2, 4.7). */
import { crc32 } from 'node:zlib';

/** Reflected polynomial 0xEDB88320; seed and result are not inverted, which zlib does with both. Unsigned 32 bits. */
export function crc32le(seed: number, bytes: Uint8Array): number {
  return (crc32(bytes, (seed ^ 0xffffffff) >>> 0) ^ 0xffffffff) >>> 0;
}

/** Key of a heartbeat region's messages; `number`: its place among the global regions of this node, 0 with local heartbeat. */
export function regionKey(region: string, number: number): number {
  return crc32le(number + 32, Buffer.from(region, 'latin1'));
}
