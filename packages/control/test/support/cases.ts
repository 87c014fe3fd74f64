/**
 * What every operation of the API is asked in tests, by its operationId: an operation without cases fails the test, so does a case without an operation. What can
 * be made from the OpenAPI document (wrong roles, missing and superfluous properties, bad ids, idempotency) is made from it (api.test.ts).
 */
import type { World } from './world.js';

export interface Given {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: string;
  readonly body?: unknown;
}

export interface Case {
  /** Makes what a good request needs; called anew for each good request. */
  good(world: World): Promise<Given>;
  /** Requests that are refused, with status and code. */
  readonly bad?: readonly { readonly what: string; readonly given: (world: World) => Promise<Given> | Given; readonly status: number; readonly code: string }[];
  /** Who asks a good request, where the operation's own role does not say it: a token is revoked by whose it is, or an admin. */
  readonly as?: 'admin';
  /** A stream has no answer to compare. */
  readonly stream?: true;
}

const PASSWORD = 'correct horse battery';

export const CASES: Readonly<Record<string, Case>> = {
  listUsers: { good: () => Promise.resolve({}) },
  createUser: {
    good: (world) => Promise.resolve({ body: { name: world.name('user'), role: 'viewer', password: PASSWORD } }),
    bad: [
      { what: 'a name that is taken', given: async (world) => ({ body: { name: (await world.user('viewer')).name, role: 'viewer', password: PASSWORD } }), status: 409, code: 'NAME_TAKEN' },
      { what: 'a short password', given: () => ({ body: { name: 'short', role: 'viewer', password: 'short' } }), status: 400, code: 'BAD_REQUEST' },
      { what: 'a role that is none', given: () => ({ body: { name: 'king', role: 'king', password: PASSWORD } }), status: 400, code: 'BAD_REQUEST' },
      { what: 'a name of many words', given: () => ({ body: { name: 'two words', role: 'viewer', password: PASSWORD } }), status: 400, code: 'BAD_REQUEST' },
    ],
  },
  updateUser: {
    good: async (world) => ({ params: { id: (await world.user('viewer')).id }, body: { role: 'operator' } }),
    bad: [
      { what: 'nothing to change', given: async (world) => ({ params: { id: (await world.user('viewer')).id }, body: {} }), status: 400, code: 'BAD_REQUEST' },
      { what: 'the last admin', given: async (world) => ({ params: { id: await world.lastAdmin() }, body: { enabled: false } }), status: 409, code: 'LAST_ADMIN' },
    ],
  },
  deleteUser: {
    good: async (world) => ({ params: { id: (await world.user('viewer')).id } }),
    bad: [{ what: 'the last admin', given: async (world) => ({ params: { id: await world.lastAdmin() } }), status: 409, code: 'LAST_ADMIN' }],
  },
  login: {
    good: async (world) => ({ body: { name: (await world.user('viewer')).name, password: world.password } }),
    bad: [
      { what: 'a wrong password', given: async (world) => ({ body: { name: (await world.user('viewer')).name, password: `${world.password}x` } }), status: 401, code: 'BAD_LOGIN' },
      { what: 'nobody', given: (world) => ({ body: { name: world.name('nobody'), password: world.password } }), status: 401, code: 'BAD_LOGIN' },
    ],
  },
  whoAmI: { good: () => Promise.resolve({}) },
  logout: { good: () => Promise.resolve({}) },
  listTokens: { good: () => Promise.resolve({}) },
  createToken: {
    good: (world) => Promise.resolve({ body: { name: world.name('token'), days: 1 } }),
    bad: [
      { what: 'no days', given: () => ({ body: { name: 'none', days: 0 } }), status: 400, code: 'BAD_REQUEST' },
      { what: 'a role that is none', given: () => ({ body: { name: 'king', role: 'king', days: 1 } }), status: 400, code: 'BAD_REQUEST' },
    ],
  },
  revokeToken: { as: 'admin', good: async (world) => ({ params: { id: (await world.someToken()).id } }) },
  listTasks: {
    good: async (world) => {
      await world.task('succeeded');
      return { query: '?status=succeeded&limit=5' };
    },
    bad: [{ what: 'a state that is none', given: () => ({ query: '?status=lost' }), status: 400, code: 'BAD_REQUEST' }, { what: 'no limit at all', given: () => ({ query: '?limit=0' }), status: 400, code: 'BAD_REQUEST' }],
  },
  getTask: { good: async (world) => ({ params: { id: await world.task('succeeded') } }) },
  cancelTask: {
    good: async (world) => ({ params: { id: await world.task('pending') } }),
    bad: [{ what: 'one that has ended', given: async (world) => ({ params: { id: await world.task('failed') } }), status: 409, code: 'TASK_ENDED' }],
  },
  listEvents: {
    good: () => Promise.resolve({ query: '?after=0&limit=10' }),
    bad: [{ what: 'a number that is none', given: () => ({ query: '?after=x' }), status: 400, code: 'BAD_REQUEST' }, { what: 'a question that is none', given: () => ({ query: '?since=1' }), status: 400, code: 'BAD_REQUEST' }],
  },
  streamEvents: { good: () => Promise.resolve({}), stream: true },
};
