/** Events: a list, and a stream (server-sent events) that begins where its reader left off. */
import { type Static, Type } from 'typebox';
import { actorOf } from '../auth/actor.js';
import { monotonicMs, pause } from '../clock.js';
import type { EventRows, Events } from '../events.js';
import type { Api } from './operation.js';
import { Limit, STRICT, Time } from './schemas.js';

const Nullable = Type.Union([Type.String(), Type.Null()]);

export const EventDocument = Type.Object({
  id: Type.Integer(), time: Time, type: Type.String(), severity: Type.Enum(['info', 'warning', 'error']), object_type: Type.String(), object_id: Type.String(),
  message: Type.String(), user_name: Nullable, task_id: Nullable,
});
export type EventFacts = Static<typeof EventDocument>;

/** A reader that is not told of anything looks for itself: another control plane may have written. */
const LOOK_MS = 1000;
/** So often something is sent, or proxies take the connection for dead; and so often the token is looked at again. */
const ALIVE_MS = 15_000;
const BATCH = 500;

const documents = (rows: EventRows): EventFacts[] => rows.map((row) => ({ ...row, severity: row.severity as EventFacts['severity'] }));

export function eventOperations(api: Api, events: Events, closing: AbortSignal): void {
  const tag = 'events';
  api.read({
    id: 'listEvents', method: 'GET', path: '/events', tag, summary: 'Events: those after a number, oldest first; else the newest, newest first', role: 'viewer', answer: Type.Array(EventDocument),
    query: Type.Object({ after: Type.Optional(Type.Integer({ minimum: 0 })), before: Type.Optional(Type.Integer({ minimum: 1 })), limit: Type.Optional(Limit) }, STRICT),
  }, async ({ query: { after, before, limit = 100 } }) => documents(after === undefined ? await events.newest(limit, before) : await events.after(after, limit)));

  api.stream({
    id: 'streamEvents', method: 'GET', path: '/events/stream', tag, summary: 'Events as they happen, each with its number as id; Last-Event-ID says where to go on (default: now)', role: 'viewer',
    answer: Type.String(), query: Type.Object({ after: Type.Optional(Type.Integer({ minimum: 0 })) }, STRICT),
  }, 'text/event-stream', async ({ db, query }, request, reply) => {
    let admitted = monotonicMs();
    const given = Number(request.headers['last-event-id'] ?? Number.NaN);
    let last = Number.isSafeInteger(given) && given >= 0 ? given : (query.after ?? (await events.lastId()));
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    raw.write(': events\n\n');
    const closed = new AbortController();
    raw.once('close', () => closed.abort());
    const ended = AbortSignal.any([closed.signal, closing]);
    let silent = 0;
    while (!ended.aborted) {
      const woken = new AbortController();
      const off = events.onWake(() => woken.abort());
      try {
        const found = documents(await events.after(last, BATCH));
        for (const event of found) raw.write(`id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
        last = found.at(-1)?.id ?? last;
        // A reader that does not read gets no more to keep for it.
        if (raw.writableNeedDrain) await new Promise<void>((resolve) => { raw.once('drain', resolve); raw.once('close', resolve); });
        if (found.length > 0) silent = 0;
        else {
          await pause(LOOK_MS, AbortSignal.any([woken.signal, ended]));
          silent += LOOK_MS;
        }
        if (silent >= ALIVE_MS) { raw.write(': alive\n\n'); silent = 0; }
        if (monotonicMs() - admitted >= ALIVE_MS) {
          await actorOf(db, request.headers.authorization);
          admitted = monotonicMs();
        }
      } catch (error) {
        request.log.info({ err: error }, 'a stream of events ends: its token is good no more, or the database failed');
        break;
      } finally {
        off();
      }
    }
    raw.end();
  });
}
