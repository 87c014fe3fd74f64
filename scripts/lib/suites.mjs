// The test suites. `unit` is packages/*/test but the engine's; `engine` is packages/ocfs2/test, whose volumes are made and
// judged by ocfs2-tools; every directory test/NAME that holds a suite.json, and every
// packages/NAME/test/oracle, is a suite of its own. suite.json:
//   { "about": "one line", "needs": ["kernel", …], "order": 50, "parallel": false, "minutes": 10, "named": false }
// needs: oracles (scripts/lib/oracles.mjs) without which it can't run; order: smaller runs earlier (unit is 0);
// parallel: whether its files may run side by side (default no: two cores, and most boot machines); minutes: after
// which it is taken to hang, is ended and counts as failed; named: whether it runs only when it is asked for by name.
import fs from 'node:fs';
import path from 'node:path';
import { oracleMissing } from './oracles.mjs';
import { root } from './run.mjs';

/**
 * @typedef {object} Suite
 * @property {string} name
 * @property {string} about
 * @property {string[]} include   test files, absolute
 * @property {boolean} parallel
 * @property {number} order
 * @property {number} minutes
 * @property {boolean} named      whether it runs only when it is asked for by name
 * @property {boolean} boots      whether it boots machines: such suites run beside the others, one after the other
 * @property {string[]} missing   reasons why it can't run here; empty when it can
 */

/**
 * Test files below a directory. Suites name their files: vitest takes a directory for a part of a path (test/crash is one of
 * packages/ocfs2/test/crash, too), and its --exclude does not reach projects.
 * @param {string} directory  from the repository's root
 * @param {string} [except]   a directory in it that is left out
 */
function testFiles(directory, except) {
  const top = path.join(root, directory);
  if (!fs.existsSync(top)) return [];
  return fs.readdirSync(top, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts') && (except === undefined || !file.startsWith(except + path.sep))).map((file) => path.join(top, file));
}

/** @returns {Suite[]} in the order in which they run */
export function suites() {
  const packages = fs.readdirSync(path.join(root, 'packages'));
  /** @type {Suite[]} */
  const found = [
    {
      name: 'unit', about: 'packages/*/test, no oracle needed', include: packages.filter((name) => name !== 'ocfs2').flatMap((name) => testFiles(`packages/${name}/test`, 'oracle')),
      order: 0, parallel: true, minutes: 15, missing: [], named: false, boots: false,
    },
    {
      name: 'engine', about: 'packages/ocfs2/test: the file system, volumes made and judged by ocfs2-tools', include: testFiles('packages/ocfs2/test'),
      order: 1, parallel: true, minutes: 20, named: false, boots: false, missing: ['ocfs2-tools', 'qemu'].flatMap((need) => oracleMissing(need) ?? []),
    },
  ];
  const directories = [
    ...fs.readdirSync(path.join(root, 'test')).map((name) => ({ name, directory: `test/${name}` })),
    ...packages.map((name) => ({ name: `${name}-oracle`, directory: `packages/${name}/test/oracle` })),
  ];
  for (const { name, directory } of directories) {
    const file = path.join(root, directory, 'suite.json');
    if (!fs.existsSync(file)) {
      const holdsTests = fs.existsSync(path.join(root, directory)) && fs.statSync(path.join(root, directory)).isDirectory() && fs.readdirSync(path.join(root, directory)).some((entry) => entry.endsWith('.test.ts'));
      if (holdsTests) throw new Error(`${directory} holds tests but no suite.json: npm test would not run them`);
      continue;
    }
    /** @type {{ about: string, needs?: string[], order?: number, parallel?: boolean, minutes?: number, named?: boolean }} */
    const { about, needs = [], order = 50, parallel = false, minutes = 10, named = false } = JSON.parse(fs.readFileSync(file, 'utf8'));
    const missing = needs.flatMap((need) => oracleMissing(need) ?? []);
    found.push({ name, about, order, parallel, minutes, named, missing: [...new Set(missing)], boots: needs.includes('kernel'), include: testFiles(directory) });
  }
  return found.sort((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
}
