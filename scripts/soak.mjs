// npm run soak -- --minutes M: a mount, NBD clients and the command line at once for M minutes (2 by default), in rounds that end by
// unmount, SIGTERM or SIGKILL, each verified; test/soak/soak.test.ts says how. LUNFS_SEED=… repeats the dice of a run.
import { parseArgs } from 'node:util';
import { bin, run } from './lib/run.mjs';
import { setup } from './setup.mjs';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '2' } } });
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  console.error(`--minutes ${values.minutes} is no number of minutes`);
  process.exitCode = 2;
} else {
  await setup();
  const { status } = await run(bin('vitest'), ['run', '--project', 'local', 'test/soak/'], { inherit: true, env: { LUNFS_SOAK_MINUTES: String(minutes) } });
  process.exitCode = status === 0 ? 0 : 1;
}
