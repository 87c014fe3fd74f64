// npm run bench [-- NAME…]: every bench/*.mjs in order (or the named ones); each prints its own table of ratios.
import fs from 'node:fs';
import path from 'node:path';
import { root, run, seconds } from './lib/run.mjs';
import { setup } from './setup.mjs';

const directory = path.join(root, 'bench');
const names = process.argv.slice(2);
await setup();
const all = fs.existsSync(directory) ? fs.readdirSync(directory).filter((file) => file.endsWith('.mjs')).sort() : [];
const chosen = all.filter((file) => names.length === 0 || names.some((name) => file === name || file === `${name}.mjs`));
if (chosen.length === 0) {
  console.error(names.length > 0 ? `no benchmark ${names.join(', ')}; there are ${all.join(', ')}` : 'bench/ holds no benchmark');
  process.exitCode = 2;
}
for (const file of chosen) {
  console.log(`\n=== ${file}`);
  const { status, ms } = await run(process.execPath, [path.join('bench', file)], { inherit: true, env: { UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? '8' } });
  console.log(`${status === 0 ? 'done' : `FAILED with status ${status}`} in ${seconds(ms)}`);
  if (status !== 0) process.exitCode = 1;
}
