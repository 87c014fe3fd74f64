/** The first half of the corruption cases: see fuzz.ts. */
import { expect, test } from 'vitest';
import { CASES, ONLY, SEED, runShare } from './fuzz.js';

test(`corruption, even ones of ${CASES} cases of seed ${SEED}${ONLY === undefined ? '' : `, case ${ONLY} alone`}`, { timeout: 24 * 3_600_000 }, async () => {
  expect((await runShare(0, 2)).join('\n')).toBe('');
});
