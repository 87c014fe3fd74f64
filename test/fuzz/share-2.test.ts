/** The second half of the corruption cases: see fuzz.ts. */
import { expect, test } from 'vitest';
import { CASES, ONLY, SEED, runShare } from './fuzz.js';

test.skipIf(ONLY !== undefined)(`corruption, odd ones of ${CASES} cases of seed ${SEED}`, { timeout: 24 * 3_600_000 }, async () => {
  expect((await runShare(1, 2)).join('\n')).toBe('');
});
