// npm run bench [-- NAME…]: every bench/*.mjs in order (or the named ones); each prints its own table of ratios. `-- --help` lists them, with
// the minutes each takes on an idle machine of 2 cores.
import fs from 'node:fs';
import path from 'node:path';
import { endTogether, root, run, seconds } from './lib/run.mjs';
import { setup } from './setup.mjs';

const directory = path.join(root, 'bench');
const all = fs.existsSync(directory) ? fs.readdirSync(directory).filter((file) => file.endsWith('.mjs')).sort() : [];
const names = process.argv.slice(2);
if (names.some((name) => name === '--help' || name === '-h')) help();
else await bench(all.filter((file) => names.length === 0 || names.some((name) => file === name || file === `${name}.mjs`)));

/** What each benchmark says of itself in its first lines. */
function help() {
  console.log('npm run bench [-- NAME…]; docs/benchmarks.md has the goals, figures and profiles. One benchmark with other rounds or sizes: node bench/NAME.mjs (its head names the options).\n');
  for (const file of all) {
    const head = fs.readFileSync(path.join(directory, file), 'utf8').split('\n').filter((line) => line.startsWith('//'));
    const minutes = /Takes about (\d+ minutes?)/.exec(head.join(' '))?.[1] ?? '';
    console.log(`${file.replace('.mjs', '').padEnd(12)} ${minutes.padEnd(10)} ${head[0].slice(3)}`);
  }
}

/** @param {string[]} chosen */
async function bench(chosen) {
  if (chosen.length === 0) {
    console.error(names.length > 0 ? `no benchmark ${names.join(', ')}; there are ${all.map((file) => file.replace('.mjs', '')).join(', ')}` : 'bench/ holds no benchmark');
    process.exitCode = 2;
    return;
  }
  endTogether();
  await setup();
  for (const file of chosen) {
    console.log(`\n=== ${file}`);
    // The size of libuv's pool is part of what is measured: the volume process has its own default.
    const { status, ms } = await run(process.execPath, [path.join('bench', file)], { inherit: true });
    console.log(`${status === 0 ? 'done' : `FAILED with status ${status}`} in ${seconds(ms)}`);
    if (status !== 0) process.exitCode = 1;
  }
}
