/** Crashes at every write of scripts about names and what stat shows (support/survive.ts). */
import { expect, test } from 'vitest';
import { CRASH_VOLUMES, record } from '../support/crash.js';
import { SCRIPTS } from '../support/crash-scripts.js';
import { crashScripts, geometryOf } from '../support/survive.js';

crashScripts(['names', 'attributes'], { small: true });

test('images of a script are many, and the same seed gives the same ones', async () => {
  const steps = SCRIPTS[0].steps(geometryOf(CRASH_VOLUMES[0]));
  const [a, b] = [await record(CRASH_VOLUMES[0], steps, 7), await record(CRASH_VOLUMES[0], steps, 7)];
  expect(a.recording.changes).toBeGreaterThan(50);
  expect(a.recording.log).toEqual(b.recording.log);
});
