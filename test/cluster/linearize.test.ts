/** The judge of random mixes judges: histories that an order explains, and such that none does. */
import { expect, test } from 'vitest';
import { type Model, type Operation, linearize } from '../support/linearize.js';

type Call = { readonly write: string } | { readonly read: string };
const REGISTER: Model<string, Call, undefined> = { key: (state) => state, step: (state, { input }) => ('write' in input ? input.write : input.read === state ? state : undefined) };

/** `A 1-3 w5`: A writes 5 between the moments 1 and 3. */
function judge(...lines: string[]): unknown {
  const history = lines.map((line): Operation<Call, undefined> => {
    const [, by, start, end, kind, value] = /^(\w) (\d+)-(\d+) ([wr])(\w*)$/.exec(line)!;
    return { by, start: Number(start), end: Number(end), input: kind === 'w' ? { write: value } : { read: value }, output: undefined };
  });
  const verdict = linearize(REGISTER, [''], history);
  return 'impossible' in verdict ? lines[history.indexOf(verdict.impossible)] : [...verdict.states].toSorted();
}

test('reads see the last completed write, or one under way', () => {
  expect(judge('A 1-2 w5', 'B 3-4 r5')).toEqual(['5']);
  expect(judge('A 1-4 w5', 'B 2-3 r')).toEqual(['5']);
  expect(judge('A 1-4 w5', 'B 2-3 r5')).toEqual(['5']);
  expect(judge('A 1-2 w5', 'B 3-4 r')).toBe('B 3-4 r');
  expect(judge('A 1-2 w5', 'B 3-4 w6', 'C 5-6 r5')).toBe('C 5-6 r5');
  expect(judge('B 2-3 r5', 'A 4-5 w5')).toBe('B 2-3 r5');
});

test('nobody sees the new value, and then somebody the old one', () => {
  expect(judge('A 1-2 w5', 'A 3-9 w6', 'B 4-5 r6', 'C 6-7 r5')).toBe('C 6-7 r5');
  expect(judge('A 1-2 w5', 'A 3-9 w6', 'B 4-7 r6', 'C 6-8 r5')).toEqual(['6']);
});

test('what happened at the same time may have happened in any order, and only that', () => {
  expect(judge('A 1-3 w5', 'B 2-4 w6')).toEqual(['5', '6']);
  expect(judge('A 1-3 w5', 'B 2-4 w6', 'C 5-6 r5', 'D 7-8 r6')).toBe('D 7-8 r6');
  expect(judge('A 1-9 w5', 'B 2-3 r5', 'C 4-5 w6', 'D 6-7 r6', 'E 8-9 r5')).toBe('E 8-9 r5');
});
