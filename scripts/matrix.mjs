// npm run matrix [-- --block 512,4096] [--cluster 4K,1M] [--features all,oldest] [--big]: the differential matrix (test/matrix),
// all of its cells or those named, with small populations or (--big) with 100,000 extents and 200,000 entries in each.
import { parseArgs } from 'node:util';
import { bin, run } from './lib/run.mjs';
import { setup } from './setup.mjs';

const list = { type: /** @type {const} */ ('string') };
const { values } = parseArgs({ options: { block: list, cluster: list, features: list, big: { type: 'boolean', default: false } } });

/** @param {string} size */
const bytes = (size) => {
  const match = /^(\d+)([KM]?)$/i.exec(size);
  if (!match) throw new Error(`${size} is no size; write 4096, 64K or 1M`);
  return Number(match[1]) * ({ K: 1024, M: 1024 ** 2 }[match[2].toUpperCase()] ?? 1);
};
/** @param {string | undefined} sizes */
const sizes = (sizes) => sizes?.split(',').map(bytes).join(',');

await setup();
const env = {
  // Without any list the tests take their covering set; here all is the default.
  LUNFS_MATRIX_BLOCK: sizes(values.block) ?? '512,1024,2048,4096',
  ...(values.cluster === undefined ? {} : { LUNFS_MATRIX_CLUSTER: sizes(values.cluster) }),
  ...(values.features === undefined ? {} : { LUNFS_MATRIX_FEATURES: values.features }),
  ...(values.big ? { LUNFS_MATRIX_BIG: '1' } : {}),
};
const { status } = await run(bin('vitest'), ['run', 'test/matrix', '--no-file-parallelism'], { inherit: true, env });
process.exitCode = status === 0 ? 0 : 1;
