// npm run soak -- --minutes M: a mount, NBD clients and the command line at once for M minutes (2 by default), in rounds that end by
// unmount, SIGTERM or SIGKILL, each verified; test/soak/soak.test.ts says how. LUNFS_SEED=… repeats the dice of a run.
//
// npm run soak -- --cluster --minutes M [--nodes oko]: a random mix from all nodes of a cluster of kernel nodes (k) and hosts of ours (o), a
// letter for each node number; test/cluster/mix.test.ts says how. --nodes kk: what kernel nodes do among themselves.
import { optionsOf } from './lib/options.mjs';
import { bin, endTogether, run } from './lib/run.mjs';
import { setup } from './setup.mjs';

const values = optionsOf(import.meta.filename, { minutes: { type: 'string', default: '2' }, cluster: { type: 'boolean', default: false }, nodes: { type: 'string', default: 'oko' } });
endTogether();
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  console.error(`--minutes ${values.minutes} is no number of minutes`);
  process.exitCode = 2;
} else if (!/^[ko-]*[ko][ko-]*$/.test(values.nodes) || values.nodes.length > 8) {
  console.error(`--nodes ${values.nodes}: a letter for each node number, up to eight: k a kernel node, o one of ours, - nobody`);
  process.exitCode = 2;
} else {
  await setup();
  const [test, env] = values.cluster ? ['test/cluster/mix.test.ts', { LUNFS_MIX_MINUTES: String(minutes), LUNFS_MIX_NODES: values.nodes }] : ['test/soak/', { LUNFS_SOAK_MINUTES: String(minutes) }];
  const { status } = await run(bin('vitest'), ['run', '--project', 'local', test], { inherit: true, env });
  process.exitCode = status === 0 ? 0 : 1;
}
