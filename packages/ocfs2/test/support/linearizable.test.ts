import { describe, expect, test } from 'vitest';
import { History, type Specification, linearize } from './linearizable.js';

type Io = { readonly write: number } | { readonly read: number };
const REGISTER: Specification<number, Io> = { initial: 0, step: (state, io) => ('write' in io ? io.write : io.read === state ? state : undefined), looks: (io) => 'read' in io, key: String };
const call = (begin: number, end: number, io: Io) => ({ begin, end, io });

describe('the checker of histories', () => {
  test('finds an order where there is one', () => {
    const history = [call(0, 9, { write: 1 }), call(1, 3, { read: 0 }), call(4, 6, { read: 1 }), call(5, 7, { write: 2 }), call(8, 10, { read: 2 }), call(11, 30, { write: 2 }), call(12, 14, { write: 3 }), call(15, 17, { read: 3 }), call(18, 20, { read: 2 })];
    const order = linearize(REGISTER, history);
    expect(Array.isArray(order) && order.map(({ io }) => io)).toEqual([{ read: 0 }, { write: 1 }, { read: 1 }, { write: 2 }, { read: 2 }, { write: 3 }, { read: 3 }, { write: 2 }, { read: 2 }]);
  });

  test.each([
    ['a stale read', [call(0, 1, { write: 1 }), call(2, 3, { read: 0 })]],
    ['a value nobody wrote', [call(0, 5, { write: 1 }), call(1, 3, { read: 7 })]],
    ['a value that comes and goes', [call(0, 9, { write: 1 }), call(1, 2, { read: 1 }), call(3, 4, { read: 0 })]],
    ['two readers that saw two writes the other way round', [call(0, 9, { write: 1 }), call(0, 9, { write: 2 }), call(1, 2, { read: 1 }), call(3, 4, { read: 2 }), call(5, 6, { read: 1 })]],
  ])('refuses %s', (_, history) => {
    expect(linearize(REGISTER, history)).toBeUndefined();
    const noted = new History<Io>();
    for (const { begin, end, io } of history) noted.note('register', begin, end, io);
    expect(() => noted.expectLinearizable(REGISTER)).toThrow('register');
  });
});
