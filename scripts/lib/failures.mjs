// What failed in a run of vitest, told in few words, from its JSON report.
import path from 'node:path';
import { root } from './run.mjs';

/** Lines of one message: what the first does not say the next ones do. */
const LINES = 6;
const COLUMNS = 300;

/**
 * The beginning of an error's text, without the stack; blanks before all lines but the first.
 * @param {string | undefined} text
 * @param {string} [indent]
 */
export function firstWords(text, indent = '  ') {
  const lines = (text ?? '').split('\n').filter((line) => line.trim() !== '');
  const stack = lines.findIndex((line) => /^\s+at .+(:\d+:\d+|\))$/.test(line));
  const told = (stack < 0 ? lines : lines.slice(0, stack)).slice(0, LINES).map((line) => line.slice(0, COLUMNS));
  return told.join(`\n${indent}`) || 'no message';
}

/**
 * @typedef {object} Report  what vitest's reporter `json` writes, as far as it is read here
 * @property {{ name: string, status: string, message?: string, assertionResults: { fullName: string, status: string, failureMessages?: string[] }[] }[]} testResults
 */

/**
 * What failed: file, test and the first words of the error. A file that could not be loaded counts as one.
 * @param {Report} report
 */
export function failures(report) {
  return report.testResults.flatMap((file) => {
    const name = path.relative(root, file.name);
    const failed = file.assertionResults.filter((one) => one.status === 'failed');
    if (failed.length === 0) return file.status === 'failed' ? [`${name}: ${firstWords(file.message)}`] : [];
    return failed.map((one) => `${name}: ${one.fullName}: ${firstWords(one.failureMessages?.[0])}`);
  });
}
