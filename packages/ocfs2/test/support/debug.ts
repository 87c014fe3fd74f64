/** Run before every test file of the engine: waits for cluster locks in an order that could end in a circle fail. */
import { assertRanks, lockOrder } from '../../src/txn/index.js';

lockOrder.watch = assertRanks;
