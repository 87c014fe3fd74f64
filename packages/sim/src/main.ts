/** npm run sim (scripts/sim.mjs has the options). Exit code 1 when a rule was broken, 2 when the options are wrong. */
import { parseArgs } from 'node:util';
import { UsageError } from '@lunfs/device';
import { minutesFromNow } from './clock.js';
import { FAULT_KINDS, type FaultKind } from './faults.js';
import { freshSeed } from './random.js';
import { type SimulationResult, simulate } from './simulation.js';

function summary({ seed, steps, nodes, hash, virtualMs, events, grants, reads, pages, crashes, fences, faults }: SimulationResult): string {
  const struck = Object.entries(faults).map(([kind, count]) => `${count} ${kind}`).join(', ');
  return `seed ${seed}: ${nodes} nodes, ${steps} steps in ${(virtualMs / 1000).toFixed(0)} s of its time, ${events} events, ${grants} grants, ${reads} records read, ${pages.hits} loads and stores of cached pages (${pages.writtenBack} written back, ${pages.dropped} recalled), ${crashes} losses of power, ${fences} fences (${struck || 'no faults'}); trace ${hash.slice(0, 16)}`;
}

function faultKinds(text: string): FaultKind[] {
  return text.split(',').filter((word) => word !== '').map((word) => {
    const kind = FAULT_KINDS.find((one) => one === word);
    if (kind === undefined) throw new UsageError('FAULT', 'EINVAL', `--faults ${word}: there are ${FAULT_KINDS.join(', ')}`);
    return kind;
  });
}

/** A whole number; undefined when the option is not given. */
function whole(name: string, text: string | undefined, least = 0): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+$/.test(text) || Number(text) < least || !Number.isSafeInteger(Number(text))) throw new UsageError('NUMBER', 'EINVAL', `--${name} ${text}: a whole number is wanted, ${least} or more`);
  return Number(text);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' }, steps: { type: 'string', default: '600' }, minutes: { type: 'string' }, from: { type: 'string' }, nodes: { type: 'string' },
      faults: { type: 'string' }, 'no-maps': { type: 'boolean', default: false }, trace: { type: 'boolean', default: false },
    },
  });
  const common = {
    steps: whole('steps', values.steps, 1)!, nodes: whole('nodes', values.nodes, 1), faults: values.faults === undefined ? undefined : faultKinds(values.faults),
    maps: !values['no-maps'],
    print: values.trace ? (line: string) => console.log(line) : undefined,
  };
  const minutes = Number(values.minutes ?? 1);
  if (!(minutes > 0)) throw new UsageError('NUMBER', 'EINVAL', `--minutes ${values.minutes}: a number above zero is wanted`);
  const over = values.minutes === undefined ? undefined : minutesFromNow(minutes);
  let seed = whole('seed', values.seed) ?? whole('from', values.from) ?? freshSeed();
  let runs = 0, broken = 0;
  do {
    const result = await simulate({ ...common, seed });
    runs++;
    console.log(summary(result));
    if (result.violations.length > 0) {
      broken++;
      if (over === undefined && !values.trace) for (const line of result.tail) console.log(line);
      for (const violation of result.violations) console.log(`  ${violation}`);
      console.log(`  again: npm run sim -- --seed ${seed} --steps ${values.steps}${values.nodes === undefined ? '' : ` --nodes ${values.nodes}`}${values.faults === undefined ? '' : ` --faults "${values.faults}"`}${values['no-maps'] ? ' --no-maps' : ''}`);
    }
    seed = values.from === undefined ? freshSeed() : seed + 1;
  } while (over !== undefined && !over());
  console.log(`${runs} runs, ${broken} broke a rule`);
  process.exitCode = broken > 0 ? 1 : 0;
}

try {
  await main();
} catch (error) {
  const wrong = error instanceof UsageError || (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'));
  if (!wrong) throw error;
  console.error(`${error.message}\n--help says which options there are`);
  process.exitCode = 2;
}
