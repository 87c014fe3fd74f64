/** Files mapped on two hosts of ours: what is written through a mapping here is seen there, by mappings and by read(2), with msync and without. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LunfsHost } from '../../../../test/support/lunfs-host.js';
import { MAPPING_SCRIPT, Mapping, canMap } from '../../../../test/support/mapping.js';
import { lacks, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, loopDevice, must, tempDir } from '../../../../test/support/temp.js';

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'loop') || !canMap)('files mapped on two hosts', () => {
  const cleanup = new Cleanup();
  let image: string;
  let one: LunfsHost;
  let two: LunfsHost;

  beforeAll(async () => {
    image = path.join(tempDir(cleanup, 'mapped'), 'lun');
    await mkfs(image, { size: 512 << 20, blockSize: 4096, clusterSize: 65536, slots: 4, cluster: 'ocfs2' });
    const nodes = [{ number: 1, name: 'one', address: '127.0.94.1', port: 7794 }, { number: 2, name: 'two', address: '127.0.94.2', port: 7794 }];
    const cluster = { name: 'ocfs2', nodes, settings: { threshold: 7, idleMs: 5000 } };
    [one, two] = await Promise.all(nodes.map(async (node) => new LunfsHost(cleanup, cluster, node, await loopDevice(cleanup, image))));
    await Promise.all([one, two].map(async (host) => {
      await host.up();
      await host.mountVolume();
    }));
  }, 120_000);
  afterAll(() => cleanup.run(), 120_000);

  it('see each other’s pages at once', { timeout: 240_000 }, async () => {
    await one.do('truncate -s 1M $M/f; head -c 300000 /dev/zero | tr "\\0" a | dd of=$M/f conv=notrunc status=none');
    const here = await Mapping.of(cleanup, path.join(one.mount, 'f'), 1 << 20), there = await Mapping.of(cleanup, path.join(two.mount, 'f'), 1 << 20);
    const looking = await Mapping.of(cleanup, path.join(two.mount, 'f'), 1 << 20, true);
    expect([await here.ask('get 0 300000'), await there.ask('get 299000 2000'), await looking.ask('get 0 4096')]).toEqual(['a:300000', '0:1000 a:1000', 'a:4096']);
    // Dirtied here and not synced: seen there by a mapping, a read-only one, and read(2). Into a hole as well.
    for (const [offset, letter] of [[0, 'b'], [8000, 'c'], [500_000, 'd']] as const) {
      expect(await here.ask(`put ${offset} ${letter} 5000`)).toBe('put');
      expect(await there.ask(`get ${offset} 5000`)).toBe(`${letter}:5000`);
      expect(await looking.ask(`get ${offset} 5000`)).toBe(`${letter}:5000`);
    }
    await here.ask('put 20480 e 4096');
    expect(await two.do(`dd if=$M/f bs=4096 skip=5 count=1 status=none | tr -d e | wc -c`)).toBe('0\n');
    // Both directions, page by page, msync and not.
    for (let i = 0; i < 30; i++) {
      const [from, to] = i % 2 ? [here, there] : [there, here];
      await from.ask(`put ${i * 1000} ${String.fromCharCode(65 + (i % 26))} 1000`);
      if (i % 3 === 0) expect(await from.ask('sync')).toBe('synced');
      expect(await to.ask(`get ${i * 1000} 1000`)).toBe(`${String.fromCharCode(65 + (i % 26))}:1000`);
    }
    // write(2) there, seen in the mapping here; truncated and written while pages are dirty.
    await two.do(`printf zzzz | dd of=$M/f bs=1 seek=4094 conv=notrunc status=none`);
    expect(await here.ask('get 4094 4')).toBe('z:4');
    await here.ask('put 100000 q 50000');
    await Promise.all([one.do('truncate -s 120000 $M/f; truncate -s 1M $M/f'), two.do('cat $M/f | wc -c; stat -c %s $M/f')]);
    // A mapping reaches as far as the size that its kernel was told last: a fault behind it asks nobody.
    await two.do('stat $M/f');
    expect(await there.ask('get 100000 30000')).toBe('0:10000 q:20000');
    for (const mapping of [here, there, looking]) await mapping.ask('end');
    expect(await two.do('md5sum < $M/f')).toBe(await one.do('md5sum < $M/f'));
  });

  it('count in the same pages under a lock, by mappings and by write(2)', { timeout: 300_000 }, async () => {
    const pages = 6, times = 120, bytes = pages * 4096;
    await one.do(`head -c ${bytes} /dev/zero > $M/counters`);
    // Readers whose mappings bring pages in all the time.
    const readers = [one, two].map((host) => spawn('perl', ['-e', `exec 'perl', '${MAPPING_SCRIPT}', '${host.mount}/counters', ${bytes}, 'ro'`], { stdio: ['pipe', 'pipe', 'inherit'] }));
    for (const reader of readers) {
      cleanup.add(async () => void reader.kill('SIGKILL'));
      reader.stdout.resume();
      reader.stdin.on('error', () => undefined);
    }
    let busy = true;
    const reading = (async () => {
      while (busy) {
        for (const reader of readers) reader.stdin.write(`get 0 ${bytes}\n`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    const told = await Promise.all([one, two, one, two].map((host, i) => must('timeout', ['240', 'perl', MAPPING_SCRIPT, path.join(host.mount, 'counters'), String(bytes), 'count', String(times), i < 2 ? '1' : '0.5'])));
    busy = false;
    await reading;
    for (const reader of readers) reader.stdin.end('end\n');
    expect(told).toEqual(Array(4).fill('counted\n'));
    for (const host of [one, two]) {
      const counted = fs.readFileSync(path.join(host.mount, 'counters'));
      let sum = 0;
      for (let i = 0; i < pages; i++) sum += Number(counted.readBigUInt64LE(i * 4096));
      expect(sum).toBe(4 * times);
    }
  });

  it('with little memory for dirty pages while the other host asks for the file', { timeout: 300_000 }, async () => {
    const bytes = 32 << 20;
    await one.do(`truncate -s ${bytes} $M/large`);
    // The writer's pages belong to a group that may have fewer than it makes dirty.
    const commands = `perl -e 'for my $letter ("A".."B") { print "put ", $_ * 65536, " $letter 65536\\n" for 0..${bytes / 65536 - 1} } print "end\\n"'`;
    const writer = `${commands} | perl ${MAPPING_SCRIPT} $M/large ${bytes} > /dev/null`;
    const group = await memoryGroup(cleanup, 16 << 20);
    const writing = one.do(`${group === undefined ? '' : `echo $$ > ${group}/cgroup.procs; `}${writer}`, 240);
    let over = false;
    const asking = (async () => {
      while (!over) await two.do(`dd if=$M/large bs=1M skip=$((RANDOM % 32)) count=1 status=none | wc -c > /dev/null; printf x | dd of=$M/large bs=1 seek=${bytes} conv=notrunc status=none`, 200);
    })();
    await writing;
    over = true;
    await asking;
    expect(await two.do(`head -c ${bytes} $M/large | tr -d B | wc -c`)).toBe('0\n');
  });

  it('leave a clean volume', { timeout: 120_000 }, async () => {
    await Promise.all([one.must('down'), two.must('down')]);
    await mustBeClean(image);
  });
});

/** A cgroup (version 1 or 2) with a limit on memory, if this machine lets us make one. */
async function memoryGroup(cleanup: Cleanup, bytes: number): Promise<string | undefined> {
  for (const [root, limit] of [['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'], ['/sys/fs/cgroup', 'memory.max']]) {
    const group = `${root}/lunfs-${process.pid}`;
    try {
      await fs.promises.mkdir(group);
      cleanup.add(() => fs.promises.rmdir(group).catch(() => undefined));
      await fs.promises.writeFile(`${group}/${limit}`, String(bytes));
      return group;
    } catch {
      // the other version, or none
    }
  }
  console.log('no memory cgroup here: the writer has all of the memory');
  return undefined;
}
