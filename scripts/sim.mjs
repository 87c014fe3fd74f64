// npm run sim: the deterministic simulator (packages/sim). --seed S --steps N replays a run, --minutes M hunts with fresh seeds; --nodes, --faults,
// --trace, --from: packages/sim/README.md.
import path from 'node:path';
import { bin, root, run } from './lib/run.mjs';

const built = await run(bin('tsc'), ['-b'], { inherit: true });
process.exitCode = built.status === 0 ? (await run(process.execPath, [path.join(root, 'packages/sim/dist/main.js'), ...process.argv.slice(2)], { inherit: true })).status : 1;
