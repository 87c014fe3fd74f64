/**
 * Load of a guest on a disk through NBD, with a memory of what was acknowledged: after the death of the volume process every
 * acknowledged write is there, and where one was under way each sector is the old or the new one (docs/design.md 2,
 * "Acknowledged means survived").
 */
import { NbdClient } from '@lunfs/nbd';
import type { Random } from '@lunfs/device';

const BLOCK = 4096, SECTOR = 512, LANES = 4;

interface Known {
  /** Stamps that may be there: the acknowledged one, then those of writes under way. */
  stamps: number[];
}

export class DiskLoad {
  readonly #blocks = new Map<number, Known>();
  #stamp = 0;
  writes = 0;

  constructor(private readonly random: Random, readonly name: string, private readonly size: number) {}

  async connect(socket: string): Promise<NbdClient> {
    const client = await NbdClient.connect({ path: socket });
    await client.go(this.name);
    return client;
  }

  /** Write until `stopped`, each lane in a part of the disk of its own. Rejects when the connection breaks. */
  async run(client: NbdClient, stopped: () => boolean): Promise<void> {
    const perLane = this.size / BLOCK / LANES;
    await Promise.all(Array.from({ length: LANES }, async (_, lane) => {
      while (!stopped()) {
        const first = lane * perLane + this.random.int(perLane - 16), count = 1 + this.random.int(16);
        const stamp = this.random.chance(0.1) ? 0 : ++this.#stamp;
        const known = Array.from({ length: count }, (_block, i) => this.#at(first + i));
        for (const one of known) one.stamps.push(stamp);
        if (stamp === 0) await client.writeZeroes(first * BLOCK, count * BLOCK);
        else await client.write(first * BLOCK, stamped(count, stamp), { fua: this.random.chance(0.05) });
        for (const one of known) one.stamps = [stamp];
        this.writes++;
        if (this.random.chance(0.05)) await client.flush();
      }
    }));
  }

  /** Throws unless each block holds what was acknowledged last, or what was under way. */
  async verify(client: NbdClient): Promise<void> {
    const words = new Uint32Array(BLOCK / 4);
    for (const [block, known] of this.#blocks) {
      new Uint8Array(words.buffer).set(await client.read(block * BLOCK, BLOCK));
      for (let at = 0; at < words.length; at += SECTOR / 4) {
        const sector = words.subarray(at, at + SECTOR / 4);
        if (!known.stamps.includes(sector[0]) || sector.some((word) => word !== sector[0])) {
          throw new Error(`${this.name}: block ${block}, byte ${4 * at} holds ${sector[0]}, not ${known.stamps.join(' or ')}`);
        }
      }
      // Sectors of a write that was cut off may differ: whatever they are, they stay.
      known.stamps = [...new Set(Array.from({ length: BLOCK / SECTOR }, (_, i) => words[(i * SECTOR) / 4]))];
    }
  }

  #at(block: number): Known {
    let known = this.#blocks.get(block);
    if (known === undefined) this.#blocks.set(block, (known = { stamps: [0] }));
    return known;
  }
}

function stamped(blocks: number, stamp: number): Uint8Array {
  const words = new Uint32Array((blocks * BLOCK) / 4).fill(stamp);
  return new Uint8Array(words.buffer);
}
