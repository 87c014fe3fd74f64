// Opening volumes of 16 GiB, 1 TiB and 16 TiB on sparse images: mkfs, the first mount, statistics and a first write, each in a
// process of its own; ratios to 16 GiB. The promise: 16 TiB open in under a second and with under 200 MB.
// usage: node bench/open-16t.mjs [--dir DIRECTORY] [--json]
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { dir: { type: 'string', default: os.tmpdir() }, json: { type: 'boolean', default: false }, open: { type: 'string' }, make: { type: 'string' } } });
const GIB = 2 ** 30;

if (values.make !== undefined || values.open !== undefined) {
  const { openDevice } = await import('@lunfs/device');
  const { Volume, formatVolume, systemRandom, writeFile } = await import('@lunfs/ocfs2');
  const started = performance.now();
  const device = await openDevice(values.make ?? values.open, { write: true, warn: () => {} });
  if (values.make !== undefined) await formatVolume(device, { type: 'vmstore', mount: 'local', discard: false, journalSize: 64 << 20 }, { random: systemRandom, time: 1 });
  else {
    const volume = await Volume.mount(device);
    const openMs = performance.now() - started;
    await volume.names.statistics();
    const { blkno } = await volume.names.create(volume.names.root, Buffer.from(`file ${process.pid}`), { mode: 0o100644, uid: 0, gid: 0 });
    await writeFile(volume.ctx, blkno, 2 ** 40, Buffer.alloc(65536, 'x'));
    await volume.sync();
    console.log(JSON.stringify({ openMs, firstWriteMs: performance.now() - started - openMs, peakMiB: process.resourceUsage().maxRSS / 1024 }));
    await volume.unmount();
  }
  await device.close();
} else {
  const directory = fs.mkdtempSync(path.join(values.dir, 'lunfs-bench-open-'));
  const file = path.join(directory, 'volume');
  const self = (...args) => {
    const started = performance.now();
    const { status, stdout, stderr } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...args], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    return { ms: performance.now() - started, text: stdout };
  };
  const rows = [];
  try {
    // ext4 keeps files to 16 TiB less a block.
    for (const [name, size] of [['16 GiB', 16 * GIB], ['1 TiB', 1024 * GIB], ['16 TiB', 16384 * GIB - 2 ** 20]]) {
      fs.rmSync(file, { force: true });
      fs.writeFileSync(file, '');
      fs.truncateSync(file, size);
      const made = self('--make', file);
      const opened = Array.from({ length: 5 }, () => JSON.parse(self('--open', file).text)).sort((a, b) => a.openMs - b.openMs)[2];
      rows.push({ name, mkfsMs: made.ms, ...opened });
    }
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
  const [first] = rows;
  if (values.json) console.log(JSON.stringify(rows));
  else for (const { name, mkfsMs, openMs, firstWriteMs, peakMiB } of rows) {
    console.log(`${name.padEnd(7)} mkfs ${mkfsMs.toFixed(0).padStart(6)} ms   open ${openMs.toFixed(0).padStart(5)} ms (ratio ${(openMs / first.openMs).toFixed(2)})   first write ${firstWriteMs.toFixed(0).padStart(5)} ms   peak ${peakMiB.toFixed(0)} MiB`);
  }
}
