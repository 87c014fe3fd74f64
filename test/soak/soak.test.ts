/**
 * A soak: users on a mount, guests on disks through NBD and the command line at once, rounds of some seconds that end by
 * unmount, SIGTERM under load or SIGKILL; after each all that was promised is there, and both checkers find nothing.
 * Two minutes here; `npm run soak -- --minutes M` for longer. LUNFS_SEED=… repeats the dice, though not the timing.
 */
import fs from 'node:fs';
import path from 'node:path';
import { Random } from '@lunfs/device';
import type { NbdClient } from '@lunfs/nbd';
import { afterAll, expect, test } from 'vitest';
import { type TestImage, ends, testImage } from '../../packages/host/test/support/image.js';
import { Cleanup, exec, must, seed } from '../support/temp.js';
import { DiskLoad } from './disk-load.js';
import { FileLoad } from './file-load.js';

const MINUTES = Number(process.env.LUNFS_SOAK_MINUTES ?? 2);
const LUNFS = path.resolve(import.meta.dirname, '../../packages/cli/bin/lunfs.cjs');
const DISK = 48 << 20;

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

const lunfs = (...args: string[]) => must(process.execPath, [LUNFS, ...args]);

class Soak {
  readonly counts = { rounds: 0, killed: 0, terminated: 0, unmounted: 0, commands: 0 };
  readonly users: FileLoad[];
  readonly guests: DiskLoad[];

  constructor(private readonly image: TestImage, private readonly random: Random) {
    this.users = [0, 1, 2].map((i) => new FileLoad(random.fork(), image.mountPoint, `user${i}`));
    this.guests = ['thin.raw', 'thick.raw'].map((name) => new DiskLoad(random.fork(), name, DISK));
  }

  async begin(): Promise<void> {
    const { image } = this.image;
    await lunfs('disk', 'create', `${image}:/thin.raw`, String(DISK));
    await lunfs('disk', 'create', '--thick', `${image}:/thick.raw`, String(DISK));
    await this.#mounted(async () => {
      for (const user of this.users) await user.begin();
    }, 'unmount');
  }

  /** Load, an end by dice, then a look at everything. */
  async round(): Promise<void> {
    this.counts.rounds++;
    const end = this.random.pick(['kill', 'kill', 'terminate', 'unmount'] as const);
    await this.#mounted((clients) => this.#load(clients, end === 'unmount'), end);
    await this.#mounted(async (clients) => {
      for (const user of this.users) await user.verify();
      for (const [i, guest] of this.guests.entries()) await guest.verify(clients[i]);
    }, 'unmount');
    await this.image.check();
    await this.#commandsAlone();
  }

  /** Start the volume process with the mount and both disks, do `work`, end it so. */
  async #mounted(work: (clients: readonly NbdClient[]) => Promise<void>, end: 'kill' | 'terminate' | 'unmount'): Promise<void> {
    const { image, guests } = this;
    const one = await image.start({ mount: { directory: image.mountPoint }, exports: guests.map(({ name }) => ({ path: `/${name}` })) });
    const clients = await Promise.all(guests.map((guest, i) => guest.connect(one.facts.exports[i].socket!)));
    const working = work(clients);
    if (end === 'unmount') {
      await working;
      for (const client of clients) client.destroy();
      one.kill('SIGTERM');
      expect(await ends(one, 60_000)).toEqual({ code: 0, signal: null });
      this.counts.unmounted++;
    } else {
      await Promise.race([working, new Promise((resolve) => setTimeout(resolve, 3000 + this.random.int(5000)))]);
      this.#stopped = true;
      one.kill(end === 'kill' ? 'SIGKILL' : 'SIGTERM');
      const how = await ends(one, 60_000);
      expect(how).toEqual(end === 'kill' ? { code: null, signal: 'SIGKILL' } : { code: 0, signal: null });
      this.counts[end === 'kill' ? 'killed' : 'terminated']++;
      await working;
      for (const client of clients) client.destroy();
      // What a dead process leaves is a mount point that answers nothing.
      if (end === 'kill') await exec('umount', ['-l', image.mountPoint]);
    }
  }

  #stopped = false;

  /** Everybody at once, until stopped; when stopped by force, whoever is cut off has nothing to complain of. */
  async #load(clients: readonly NbdClient[], bySelf: boolean): Promise<void> {
    this.#stopped = false;
    if (bySelf) setTimeout(() => (this.#stopped = true), 3000 + this.random.int(5000));
    const stopped = (): boolean => this.#stopped;
    const endure = async (work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        if (bySelf || !this.#stopped) throw error;
      }
    };
    const all = [
      ...this.users.map((user) => endure(async () => {
        while (!stopped()) await user.step();
      })),
      ...this.guests.map((guest, i) => endure(() => guest.run(clients[i], stopped))),
      endure(async () => {
        while (!stopped()) await this.#commandBeside();
      }),
    ];
    await Promise.all(all);
  }

  /** The command line beside the mount: it goes through the volume process. */
  async #commandBeside(): Promise<void> {
    const { image } = this.image;
    const extra = `${image}:/extra.raw`;
    for (const args of [['df', image], ['disk', 'create', extra, '1M'], ['disk', 'ls', image], ['disk', 'rm', extra]]) {
      if (this.#stopped) return;
      const { status, stderr } = await exec(process.execPath, [LUNFS, ...args]);
      if (this.#stopped) return;
      // The disk may be left of a command that was cut off.
      if (status !== 0 && !stderr.includes('is there already')) throw new Error(`lunfs ${args.join(' ')}: status ${status}\n${stderr}`);
      this.counts.commands++;
    }
  }

  /** The command line on a volume nobody has mounted: it sees what the users were promised. */
  async #commandsAlone(): Promise<void> {
    const { image, directory } = this.image;
    await lunfs('check', image);
    for (const user of this.users) {
      const sample = user.sample();
      if (sample === undefined) continue;
      const copy = path.join(directory, 'copy');
      fs.rmSync(copy, { force: true });
      await lunfs('cp', `${image}:/${user.name}/${sample.name}`, copy);
      expect(fs.readFileSync(copy).equals(sample.bytes)).toBe(true);
      this.counts.commands++;
    }
  }
}

test(`${MINUTES} minutes of everything at once`, { timeout: MINUTES * 60_000 + 300_000 }, async () => {
  const random = new Random(seed('soak'));
  const image = await testImage(cleanup, { size: 512 << 20 });
  const soak = new Soak(image, random);
  const until = performance.now() + MINUTES * 60_000;
  await soak.begin();
  do await soak.round();
  while (performance.now() < until);
  const { users, guests, counts } = soak;
  const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);
  console.log(`soak: ${JSON.stringify(counts)}, ${sum(users.map((u) => u.operations))} operations on files with ${sum(users.map((u) => u.promises))} promises, ${sum(guests.map((g) => g.writes))} writes of guests`);
  expect(sum(users.map((user) => user.promises))).toBeGreaterThan(0);
  expect(sum(guests.map((guest) => guest.writes))).toBeGreaterThan(0);
});
