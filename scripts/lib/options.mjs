// Options of the project's scripts. `--help` prints what a script says of itself in its head.
import fs from 'node:fs';
import { parseArgs } from 'node:util';

/** @typedef {import('node:util').ParseArgsConfig['options'] & {}} Spec */

/**
 * The options of a script, which ends here with --help, and with status 2 when there is no such option.
 * @template {Spec} T
 * @param {string} script   its file
 * @param {T} spec          as parseArgs takes it
 * @returns {ReturnType<typeof parseArgs<{ options: T }>>['values']}
 */
export function optionsOf(script, spec) {
  helped(script);
  try {
    return parseArgs({ options: spec }).values;
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n--help says which options there are`);
    process.exit(2);
  }
}

/**
 * With --help or -h among the arguments, before any `--`: prints the head of a script and ends.
 * @param {string} script
 */
export function helped(script) {
  const args = process.argv.slice(2);
  if (!args.slice(0, args.includes('--') ? args.indexOf('--') : undefined).some((word) => word === '--help' || word === '-h')) return;
  const lines = fs.readFileSync(script, 'utf8').split('\n');
  console.log(lines.slice(0, lines.findIndex((line) => !line.startsWith('//'))).map((line) => line.replace(/^\/\/ ?/, '')).join('\n'));
  process.exit(0);
}
