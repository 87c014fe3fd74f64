// npm run check: lint, types, walls and dead code, in seconds. Steps run side by side where one does not need the
// other's result; each prints its time; the output of a failed step follows. Exit code 1 when a step failed.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { bin, root, run, seconds } from './lib/run.mjs';

fs.mkdirSync(path.join(root, '.cache'), { recursive: true });
const packages = fs.readdirSync(path.join(root, 'packages')).filter((name) => fs.existsSync(path.join(root, 'packages', name, 'package.json')));

const steps = [
  { name: 'build', run: () => run(bin('tsc'), ['-b']) },
  { name: 'eslint', run: () => run(bin('eslint'), ['--cache', '--cache-strategy', 'content', '--cache-location', '.cache/eslint', '.']) },
  { name: 'test types', after: 'build', run: () => run(bin('tsc'), ['-p', 'tsconfig.test.json', '--incremental', '--tsBuildInfoFile', '.cache/test.tsbuildinfo']) },
  { name: 'walls', after: 'build', run: () => run(bin('depcruise'), ['--config', '.dependency-cruiser.cjs', '--output-type', 'err', ...packages.map((name) => `packages/${name}/src`)]) },
  { name: 'biome', run: () => run(bin('biome'), ['lint', '--error-on-warnings']) },
  { name: 'dead code', run: () => run(bin('knip'), ['--no-progress', '--no-config-hints', '--include', 'files,exports,types,enumMembers,duplicates,unlisted,unresolved']) },
  { name: 'packages', run: () => checkPackages() },
];

/** What no tool checks: every package has a README of its own, its licence and version are the project's; the lockfile is whole. */
async function checkPackages() {
  const started = performance.now();
  const problems = [];
  const notes = [];
  const project = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  for (const name of packages) {
    const directory = path.join(root, 'packages', name);
    const facts = JSON.parse(fs.readFileSync(path.join(directory, 'package.json'), 'utf8'));
    if (facts.name !== `@lunfs/${name}`) problems.push(`packages/${name}: is named ${facts.name}, not @lunfs/${name}`);
    if (facts.version !== project.version) problems.push(`packages/${name}: version ${facts.version}, the project has ${project.version}`);
    if (facts.license !== project.license) problems.push(`packages/${name}: license ${facts.license}, the project has ${project.license}`);
    const readme = path.join(directory, 'README.md');
    const lines = fs.existsSync(readme) ? fs.readFileSync(readme, 'utf8').trim().split('\n') : [];
    if (lines.length === 0) notes.push(`packages/${name}: no README.md (half a page: its job, its terms, how to use it, where its proof is)`);
    if (lines.length > 80) problems.push(`packages/${name}/README.md: ${lines.length} lines; half a page is meant, the rest belongs into docs/`);
    if (lines.length > 0 && !lines[0].startsWith(`# @lunfs/${name}`)) problems.push(`packages/${name}/README.md: first line must be "# @lunfs/${name}"`);
  }
  // npm leaves out of the lockfile what its registry does not offer, and then npm ci refuses on every other machine.
  const locked = JSON.parse(fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
  for (const [name, facts] of Object.entries(locked)) {
    const lost = Object.keys(facts.optionalDependencies ?? {}).filter((one) => !locked[`${name}/node_modules/${one}`] && !locked[`node_modules/${one}`]);
    if (lost.length > 0) problems.push(`package-lock.json: ${name} lacks its platform packages ${lost.join(', ')}; restore their entries`);
  }
  for (const line of notes) console.log(`note   ${line}`);
  return { status: problems.length > 0 ? 1 : 0, output: problems.map((line) => `${line}\n`).join(''), ms: performance.now() - started };
}

const started = performance.now();
const waiting = [...steps];
const finished = new Map();
const failed = [];
const lanes = Math.max(2, Math.min(4, os.availableParallelism()));

async function lane() {
  for (;;) {
    const index = waiting.findIndex((step) => !step.after || finished.has(step.after));
    if (index < 0) {
      if (waiting.length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    const [step] = waiting.splice(index, 1);
    const result = await step.run();
    finished.set(step.name, result);
    if (result.status !== 0) failed.push({ step, result });
    console.log(`${result.status === 0 ? 'ok    ' : 'FAILED'} ${step.name.padEnd(12)} ${seconds(result.ms).padStart(8)}`);
  }
}

await Promise.all(Array.from({ length: lanes }, () => lane()));
for (const { step, result } of failed) console.log(`\n--- ${step.name} ---\n${result.output.trimEnd()}`);
console.log(`\ncheck: ${failed.length === 0 ? 'clean' : `${failed.map(({ step }) => step.name).join(', ')} failed`} in ${seconds(performance.now() - started)}`);
process.exitCode = failed.length === 0 ? 0 : 1;
