import { expect, it } from 'vitest';
import { NodeMap } from '../src/node-map.js';

it('has the layout of the wire and goes in order', () => {
  const map = new NodeMap([254, 0, 9]);
  expect([...map]).toEqual([0, 9, 254]);
  expect(Buffer.from(map.toBytes()).toString('hex')).toBe(`0102${'00'.repeat(29)}40`);
  expect(NodeMap.fromBytes(map.toBytes()).equals(map)).toBe(true);
  expect([...NodeMap.fromBytes(new Uint8Array(32).fill(255))]).toHaveLength(255);
  map.delete(0);
  expect([map.lowest, map.size, map.has(0), map.has(255), map.has(-1)]).toEqual([9, 2, false, false, false]);
  expect(() => map.add(255)).toThrow(/no node number/);
});
