// npm run fuzz -- [--cases N] [--seed S] [--case K]: corruption cases of test/fuzz, any number of them; --case runs one alone and
// says what it does. Without --seed a new one is taken and printed.
import { optionsOf } from './lib/options.mjs';
import { bin, endTogether, run } from './lib/run.mjs';
import { setup } from './setup.mjs';

const values = optionsOf(import.meta.filename, { cases: { type: 'string', default: '100000' }, seed: { type: 'string' }, case: { type: 'string' } });
endTogether();
for (const [name, value] of Object.entries(values)) {
  if (value !== undefined && !/^\d+$/.test(value)) {
    console.error(`--${name} ${value}: a whole number is wanted`);
    process.exit(2);
  }
}
await setup();
const seed = values.seed ?? (values.case === undefined ? String(Date.now() % 1_000_000) : '1');
console.log(`fuzz: seed ${seed}, ${values.case === undefined ? `${values.cases} cases` : `case ${values.case}`}`);
const env = { LUNFS_FUZZ_CASES: values.cases, LUNFS_FUZZ_SEED: seed, ...(values.case === undefined ? {} : { LUNFS_FUZZ_CASE: values.case }) };
const { status } = await run(bin('vitest'), ['run', 'test/fuzz/', '--project=local'], { inherit: true, env });
process.exitCode = status === 0 ? 0 : 1;
