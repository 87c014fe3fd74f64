// npm run sim -- --seed S --steps N: one run of the deterministic simulator (packages/sim), the same each time
// npm run sim -- --minutes M: runs with fresh seeds for M minutes, each of N steps; status 1 when one broke a rule
//   --seed S           without it a fresh one is taken and printed
//   --steps N          what the users of a run do together (default 600)
//   --minutes M        run after run, until then
//   --from S           seeds S, S + 1, … instead of fresh ones
//   --nodes N          nodes of the cluster (default: by the seed)
//   --faults A,B       only these: crash, double, kill, partition, reset, stall, slow, stop, grow; "" for none
//   --no-maps          no program maps a file
//   --trace            every line of a run, not the last ones of one that broke a rule
import path from 'node:path';
import { helped } from './lib/options.mjs';
import { bin, endTogether, root, run } from './lib/run.mjs';

helped(import.meta.filename);
endTogether();
const built = await run(bin('tsc'), ['-b'], { inherit: true });
process.exitCode = built.status === 0 ? (await run(process.execPath, [path.join(root, 'packages/sim/dist/main.js'), ...process.argv.slice(2)], { inherit: true })).status : 1;
