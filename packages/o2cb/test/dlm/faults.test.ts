import { describe, expect, it } from 'vitest';
import { fault, scenarios } from './support/faults.js';

describe('a death at every step of the protocol (checklist 11)', () => {
  it.each(Object.keys(scenarios))('%s', (name) => {
    const { steps, wrong } = fault(name, Infinity, 'sender');
    expect(wrong).toEqual([]);
    expect(steps).toBeGreaterThan(10);
    const limit = Math.min(steps, Number(process.env.LUNFS_FAULTS ?? 30));
    for (let i = 0; i < limit; i++) {
      const at = Math.floor((i * steps) / limit);
      for (const victim of ['sender', 'receiver'] as const) {
        const outcome = fault(name, at, victim);
        expect(outcome.wrong, `${name}, step ${at}: ${outcome.where}`).toEqual([]);
      }
    }
  });
});
