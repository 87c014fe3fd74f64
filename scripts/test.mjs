// npm test [-- NAME…]: set-up, the check, then every suite (or the named ones, without the check), each with its time; a
// table; what failed, with its first words; and a last line "N passed, M failed" or "N passed, M failed, K skipped" over all
// tests. Suites that boot machines run one after the other beside the rest, which run one after the other too: a machine
// leaves a core idle half of the time. At the end two that boot machines may run at once. What a suite prints comes out whole
// when it has ended. A suite whose oracle this machine lacks is skipped by name with the reason; with CI=true that is a failure.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { failures } from './lib/failures.mjs';
import { helped } from './lib/options.mjs';
import { bin, endTogether, run, seconds } from './lib/run.mjs';
import { setup } from './setup.mjs';
import { suites } from './lib/suites.mjs';

helped(import.meta.filename);
endTogether();
const inCi = process.env.CI === 'true' || process.env.CI === '1';
const names = process.argv.slice(2);

/**
 * Runs one suite; counts come from vitest's own report, so that a file that can't even load counts as a failure.
 * `alone`: its output goes straight through; else it is printed when the suite has ended.
 */
async function runSuite(suite, alone) {
  const report = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-report-')), 'report.json');
  const args = ['run', ...suite.include, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  if (!suite.parallel) args.push('--no-file-parallelism');
  const { status, ms, output } = await run(bin('vitest'), args, { inherit: alone, timeoutMs: suite.minutes * 60_000, env: { UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? '8' } });
  if (!alone) console.log(`\n=== ${suite.name}: ${suite.about}\n${output}`);
  const result = { name: suite.name, ms, passed: 0, failed: 0, skipped: 0, note: '', failures: [] };
  if (fs.existsSync(report)) {
    const facts = JSON.parse(fs.readFileSync(report, 'utf8'));
    const unloaded = facts.testResults.filter((file) => file.status === 'failed' && file.assertionResults.every((one) => one.status !== 'failed')).length;
    result.passed = facts.numPassedTests;
    result.failed = facts.numFailedTests + unloaded;
    result.skipped = facts.numPendingTests + facts.numTodoTests;
    result.failures = failures(facts);
  }
  fs.rmSync(path.dirname(report), { recursive: true, force: true });
  if (status !== 0 && result.failed === 0) {
    result.failed = 1;
    result.note = ms >= suite.minutes * 60_000 ? `ended after ${suite.minutes} minutes: it hangs, or needs more "minutes" in suite.json` : `vitest ended with status ${status}`;
  }
  if (result.passed + result.failed === 0) {
    result.failed = 1;
    result.note = 'ran no test';
  }
  return result;
}

async function runCheck() {
  const { status, ms } = await run(process.execPath, ['scripts/check.mjs'], { inherit: true });
  return { name: 'check', ms, passed: 0, failed: status === 0 ? 0 : 1, skipped: 0, note: status === 0 ? 'clean' : 'npm run check fails' };
}

function printTable(results) {
  const rows = results.map((one) => [one.name, one.failed > 0 ? 'FAILED' : one.skipped > 0 && one.passed === 0 && one.name !== 'check' ? 'skipped' : 'ok', seconds(one.ms), String(one.passed), String(one.failed), String(one.skipped), one.note]);
  const table = [['suite', '', 'time', 'passed', 'failed', 'skipped', ''], ...rows];
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  console.log('');
  for (const row of table) console.log(row.map((cell, column) => (column >= 2 && column <= 5 ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join('  ').trimEnd());
}

const started = performance.now();
const results = [];

/** Runs suites as long as `next` gives some. */
async function runLane(next, alone) {
  for (let suite = next(); suite !== undefined; suite = next()) {
    console.log(`\n=== ${suite.name} starts: ${suite.about}`);
    if (suite.missing.length > 0) {
      const note = suite.missing.join('; ');
      console.log(`${inCi ? 'FAILED' : 'skipped'}: ${note}`);
      results.push({ name: suite.name, ms: 0, passed: 0, failed: inCi ? 1 : 0, skipped: inCi ? 0 : 1, note });
    } else {
      results.push(await runSuite(suite, alone));
    }
  }
}

try {
  await setup();
  const all = suites();
  const unknown = names.filter((name) => !all.some((suite) => suite.name === name));
  if (unknown.length > 0) throw new Error(`no suite ${unknown.join(', ')}; there are ${all.map((suite) => suite.name).join(', ')}`);
  if (names.length === 0) results.push(await runCheck());
  const chosen = all.filter((one) => (names.length === 0 ? !one.named : names.includes(one.name)));
  const machines = chosen.filter((one) => one.boots), rest = chosen.filter((one) => !one.boots);
  // Whichever lane is through with its own suites first helps with what boots machines, last ones first.
  await Promise.all([runLane(() => machines.shift(), chosen.length === 1), runLane(() => rest.shift() ?? machines.pop(), chosen.length === 1)]);
  results.sort((a, b) => chosen.findIndex(({ name }) => name === a.name) - chosen.findIndex(({ name }) => name === b.name));
} catch (error) {
  console.error(error.message);
  results.push({ name: 'npm test', ms: performance.now() - started, passed: 0, failed: 1, skipped: 0, note: 'did not get to its suites' });
}

printTable(results);
const failed = results.flatMap(({ name, failures: lines = [] }) => lines.map((line) => `${name}: ${line}`));
if (failed.length > 0) console.log(`\nfailed:\n${failed.join('\n')}`);
const sum = (key) => results.reduce((total, one) => total + one[key], 0);
console.log(`\nall of it in ${seconds(performance.now() - started)}`);
console.log(`${sum('passed')} passed, ${sum('failed')} failed${sum('skipped') > 0 ? `, ${sum('skipped')} skipped` : ''}`);
process.exitCode = sum('failed') > 0 ? 1 : 0;
