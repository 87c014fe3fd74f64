// npm run matrix [-- OPTION…]: the differential matrix (test/matrix), the whole product of block sizes, cluster sizes and feature
// sets, or what is chosen of it:
//   --block 512,4096  --cluster 4K,1M  --features default,quota   only these
//   --big              large populations (100,000 extents, 250,000 entries, …), in a few cells unless more are chosen
//   --medium           populations of the middle scale
//   --cells A,B        these cells by name
//   --from CELL        leave out all before it
//   --resume           leave out what passed since the last run without --resume
//   --lanes N          boots at once (default: one, two on machines with four cores)
//   --batch N          cells of one boot (default 12)
//   --minutes M        begin no other batch after that time
// A line per batch says what passed, how long it took, and how long the rest will. What passed is kept in .cache/matrix/passed.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { firstWords } from './lib/failures.mjs';
import { BIG, allCells, cellNamed } from './lib/matrix-cells.mjs';
import { optionsOf } from './lib/options.mjs';
import { bin, cacheDir, endTogether, run, seconds } from './lib/run.mjs';
import { setup } from './setup.mjs';

const text = { type: /** @type {const} */ ('string') };
const flag = { type: /** @type {const} */ ('boolean'), default: false };
const values = optionsOf(import.meta.filename, {
  block: text, cluster: text, features: text, cells: text, from: text, lanes: text, batch: text, minutes: text, big: flag, medium: flag, resume: flag,
});
endTogether();

/** @param {string} size */
const bytes = (size) => {
  const match = /^(\d+)([KM]?)$/i.exec(size);
  if (!match) throw new Error(`${size} is no size; write 4096, 64K or 1M`);
  return Number(match[1]) * ({ K: 1024, M: 1024 ** 2 }[match[2].toUpperCase()] ?? 1);
};
/** @param {string} name @param {string | undefined} value @param {number} otherwise */
const count = (name, value, otherwise) => {
  const n = value === undefined ? otherwise : Number(value);
  if (!(n > 0)) throw new Error(`--${name} ${value} is no number above zero`);
  return n;
};

function chosenCells() {
  const scale = values.big ? 'big' : values.medium ? 'medium' : undefined;
  const named = values.block ?? values.cluster ?? values.features;
  const cells = values.cells !== undefined ? values.cells.split(',').map(cellNamed)
    : values.big && named === undefined ? BIG
      : allCells({ blocks: values.block?.split(',').map(bytes), clusters: values.cluster?.split(',').map(bytes), features: values.features?.split(','), scale });
  const from = values.from === undefined ? 0 : cells.findIndex(({ name }) => name === values.from);
  if (from < 0) throw new Error(`--from ${values.from}: no such cell among those chosen`);
  if (cells.length === 0) throw new Error('no cell of the matrix has these sizes and features');
  return cells.slice(from).map(({ name }) => name);
}

/** After which a cell is taken to hang. */
const MINUTES = { small: 10, medium: 20, big: 120 };

/** Cells that passed, one a line. */
const record = path.join(cacheDir, 'matrix', 'passed');

function passedBefore() {
  fs.mkdirSync(path.dirname(record), { recursive: true });
  if (!values.resume) fs.rmSync(record, { force: true });
  return new Set(fs.existsSync(record) ? fs.readFileSync(record, 'utf8').split('\n') : []);
}

/**
 * One boot's worth of cells; resolves to those that failed, each with its first words.
 * @param {string[]} cells
 * @returns {Promise<Map<string, string>>}
 */
async function runBatch(cells) {
  const report = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-matrix-report-')), 'report.json');
  const { output } = await run(bin('vitest'), ['run', 'test/matrix/matrix.test.ts', '--no-file-parallelism', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`], {
    env: { LUNFS_MATRIX_CELLS: cells.join(',') }, timeoutMs: cells.reduce((sum, name) => sum + MINUTES[cellNamed(name).scale], 0) * 60_000,
  });
  /** @type {Map<string, string>} */
  const failed = new Map();
  const facts = fs.existsSync(report) ? JSON.parse(fs.readFileSync(report, 'utf8')) : { testResults: [] };
  fs.rmSync(path.dirname(report), { recursive: true, force: true });
  /** @type {{ title: string, status: string, failureMessages?: string[] }[]} */
  const tests = facts.testResults.flatMap((/** @type {{ assertionResults: object[] }} */ file) => file.assertionResults);
  const word = (/** @type {string} */ title) => title.replaceAll("'", '').split(' ')[0];
  for (const cell of cells) {
    const own = tests.filter(({ title }) => word(title) === cell);
    const bad = own.find(({ status }) => status === 'failed') ?? (own.length < 4 ? { title: cell, failureMessages: ['did not run'] } : own.find(({ status }) => status !== 'passed'));
    if (bad) failed.set(cell, `${bad.title}: ${firstWords(bad.failureMessages?.[0] ?? 'was not run')}`);
  }
  // Whichever of them the kernel complained of.
  const complaint = tests.find(({ title, status }) => title.includes('without complaint') && status === 'failed');
  if (complaint) for (const cell of cells) if (!failed.has(cell)) failed.set(cell, `the kernel that had it complained: ${firstWords(complaint.failureMessages?.[0])}`);
  if (failed.size > 0) console.log(output);
  return failed;
}

await setup();
const passed = passedBefore();
const all = chosenCells();
const todo = all.filter((name) => !passed.has(name));
const size = count('batch', values.batch, todo.some((name) => cellNamed(name).scale === 'big') ? 1 : 12), lanes = count('lanes', values.lanes, os.availableParallelism() >= 4 ? 2 : 1);
const minutes = count('minutes', values.minutes, Number.POSITIVE_INFINITY);
const batches = Array.from({ length: Math.ceil(todo.length / size) }, (_, i) => todo.slice(i * size, (i + 1) * size));
console.log(`${all.length} cells${todo.length < all.length ? `, ${all.length - todo.length} of them passed before` : ''}; ${batches.length} boots of up to ${size}`);

const started = performance.now();
let done = 0, begun = 0;
/** @type {Map<string, string>} */
const failures = new Map();
async function lane() {
  while (begun < batches.length && performance.now() - started < minutes * 60_000) {
    const batch = batches[begun++], from = performance.now();
    const failed = await runBatch(batch);
    for (const [cell, why] of failed) failures.set(cell, why);
    for (const cell of batch) if (!failed.has(cell)) fs.appendFileSync(record, `${cell}\n`);
    done += batch.length;
    const rest = ((performance.now() - started) / done) * (todo.length - done);
    console.log(`${batch[0]} … ${batch.at(-1)}: ${batch.length - failed.size} passed${failed.size > 0 ? `, ${failed.size} FAILED` : ''} in ${seconds(performance.now() - from)}; ${done} of ${todo.length} cells done, about ${Math.ceil(rest / 60_000)} min left`);
  }
}
await Promise.all(Array.from({ length: lanes }, lane));
for (const [cell, why] of failures) console.log(`\nFAILED ${cell}\n  ${why}`);
console.log(`\n${done - failures.size} cells passed, ${failures.size} failed${done < todo.length ? `, ${todo.length - done} left (--resume)` : ''} in ${seconds(performance.now() - started)}`);
process.exitCode = failures.size > 0 || done < todo.length ? 1 : 0;
