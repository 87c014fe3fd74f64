import { afterEach, expect } from 'vitest';
import { Cleanup } from '../../../../test/support/temp.js';

/** A Cleanup that runs after every test of the file. */
export function cleanupAfterEach(): Cleanup {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());
  return cleanup;
}

// vitest's asymmetric matchers are typed `any`.
export const containing = (text: string): unknown => expect.stringContaining(text);
export const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);
export const having = (fields: Record<string, unknown>): unknown => expect.objectContaining(fields);
