/**
 * What the API answers when it refuses: application/problem+json (RFC 9457) with a stable code and what to do. The table is the whole list;
 * codes of a host's lunfsd (`HOST_REFUSED`) travel in `cause`.
 */
import { type Static, Type } from 'typebox';

interface Kind {
  readonly status: number;
  readonly title: string;
  readonly remedy: string;
}

const KINDS = {
  BAD_REQUEST: { status: 400, title: 'The request does not fit its schema', remedy: 'Correct what detail names; /api/v1/openapi.json says what is expected.' },
  NOT_AUTHENTICATED: { status: 401, title: 'No valid token', remedy: 'Send "Authorization: Bearer TOKEN"; lunfs control login makes one, or lunfs token create.' },
  TOKEN_EXPIRED: { status: 401, title: 'The token has expired', remedy: 'Log in again, or have a new token made.' },
  TOKEN_REVOKED: { status: 401, title: 'The token was revoked', remedy: 'Log in again, or have a new token made.' },
  BAD_LOGIN: { status: 401, title: 'Wrong name or password', remedy: 'Try again; an admin can set a new password.' },
  TOO_MANY_LOGINS: { status: 429, title: 'Too many failed logins', remedy: 'Wait a minute.' },
  FORBIDDEN: { status: 403, title: 'Your role does not allow this', remedy: 'Ask somebody with the role that detail names.' },
  NOT_FOUND: { status: 404, title: 'No such thing', remedy: 'List what there is; it may have been removed.' },
  NAME_TAKEN: { status: 409, title: 'The name is taken', remedy: 'Choose another name.' },
  LAST_ADMIN: { status: 409, title: 'The last admin', remedy: 'Give somebody else the role admin first.' },
  TASK_IN_PROGRESS: { status: 409, title: 'A task is at work on it', remedy: 'Wait for the task that detail names, or cancel it.' },
  TASK_ENDED: { status: 409, title: 'The task has ended', remedy: 'Nothing is left to cancel.' },
  HOST_REFUSED: { status: 409, title: 'The host refused', remedy: 'Do what detail says.' },
  IDEMPOTENCY_KEY_REUSED: { status: 422, title: 'The idempotency key was used for another request', remedy: 'Choose a new key for each new request.' },
  NOT_READY: { status: 503, title: 'The control plane is not ready', remedy: 'Try again; its log says what it waits for.' },
  INTERNAL: { status: 500, title: 'A bug in lunfs, or its database failed', remedy: 'The log of the control plane has the request id; report it.' },
} as const satisfies Record<string, Kind>;

export type ProblemCode = keyof typeof KINDS;

export const ProblemDocument = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  code: Type.String({ description: 'Stable: one of a closed list.' }),
  detail: Type.String({ description: 'What happened, to what.' }),
  remedy: Type.String({ description: 'What to do.' }),
  cause: Type.Optional(Type.String({ description: 'Code of the error below, where a host refused.' })),
}, { $id: 'Problem', description: 'RFC 9457' });

export class Problem extends Error {
  constructor(readonly code: ProblemCode, detail: string, readonly causeCode?: string) {
    super(detail);
    this.name = 'Problem';
  }

  get status(): number {
    return KINDS[this.code].status;
  }

  get document(): Static<typeof ProblemDocument> {
    const { status, title, remedy } = KINDS[this.code];
    return { type: `urn:lunfs:problem:${this.code}`, title, status, code: this.code, detail: this.message, remedy, ...(this.causeCode === undefined ? {} : { cause: this.causeCode }) };
  }
}

export function notFound(what: string, id: string): Problem {
  return new Problem('NOT_FOUND', `there is no ${what} ${id}`);
}
