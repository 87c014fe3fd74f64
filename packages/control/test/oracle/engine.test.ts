/**
 * Tasks outlive the control plane: it is killed at every moment of a task that succeeds, of one that fails and of one that is cancelled; the next one ends the task
 * whole or without a trace. The world that the tasks change is a directory, whose files are made in two strides.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { type OpenedDatabase, openDatabase } from '../../src/db/open.js';
import { Events } from '../../src/events.js';
import { Problem } from '../../src/problems.js';
import { TaskEngine } from '../../src/tasks/engine.js';
import { type Kept, type StepKind, planTask } from '../../src/tasks/task.js';
import { KINDS, freshDatabase } from '../support/databases.js';
import { Death, Mortal } from '../support/dying.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });

/** `file`: makes a file that may be there already. `refused`: always fails. `long`: goes on until it is told to end. */
function kinds(mortal: Mortal): StepKind[] {
  const at = ({ path: file }: Kept): string => file as string;
  return [
    {
      name: 'file',
      observe: (args) => Promise.resolve({ there: fs.existsSync(at(args)) }),
      run: async (args, { there }) => {
        if (there === true) return;
        mortal.live();
        fs.writeFileSync(`${at(args)}.part`, 'half');
        await pause(0);
        mortal.live();
        fs.renameSync(`${at(args)}.part`, at(args));
        mortal.live();
      },
      undo: async (args, { there }) => {
        if (there === true) return;
        mortal.live();
        fs.rmSync(at(args), { force: true });
        await pause(0);
        mortal.live();
        fs.rmSync(`${at(args)}.part`, { force: true });
      },
    },
    { name: 'refused', run: () => Promise.reject(new Problem('HOST_REFUSED', 'no, thank you')) },
    {
      name: 'long',
      run: async (_args, _before, signal) => {
        while (!signal.aborted) await pause(1);
        throw new Error('told to end');
      },
    },
  ];
}

const SCENARIOS = {
  succeeded: { last: undefined, left: ['a', 'b', 'c', 'd', 'old'] },
  failed: { last: 'refused', left: ['old'] },
  cancelled: { last: 'long', left: ['old'] },
} as const;
/** Every moment of success on SQLite; of the others, which begin alike, every second or third; on PostgreSQL, where only the driver differs, every ninth. */
const STRIDE = { sqlite: { succeeded: 1, failed: 2, cancelled: 3 }, postgres: { succeeded: 9, failed: 9, cancelled: 9 } };
const ENDS = ['succeeded', 'failed', 'cancelled'];
type Scenario = keyof typeof SCENARIOS;

describe.each(KINDS)('tasks on %s', (kind) => {
  const cleanup = new Cleanup();
  let setting: string;
  let directory: string;
  beforeAll(async () => {
    setting = await freshDatabase(cleanup, kind);
    directory = tempDir(cleanup, 'world');
  }, 120_000);
  afterAll(() => cleanup.run(), 60_000);

  async function plan(database: OpenedDatabase, world: string, scenario: Scenario): Promise<string> {
    const file = (stage: number, name: string) => ({ stage, kind: 'file', title: `make ${name}`, args: { path: path.join(world, name) } });
    const { last } = SCENARIOS[scenario];
    return database.change((trx) => planTask(trx, {
      type: 'files', object: { type: 'world', id: world, name: world }, user: 'tester',
      // Two stages, the first of them two steps at once, one file that is there before.
      steps: [file(0, 'a'), file(0, 'b'), file(1, 'old'), file(1, 'c'), file(2, 'd'), ...(last === undefined ? [] : [{ stage: 3, kind: last, title: last, args: {} }])],
    }));
  }

  /** Opens, works until the task has ended or the engine is dead, and gives how it ended. `task`: planned first if there is none. */
  async function work(mortal: Mortal, world: string, scenario: Scenario, planned?: string): Promise<{ task: string; status: string | undefined }> {
    const database = await mortal.observe(() => openDatabase(setting, mortal.dialect));
    const task = planned ?? (await mortal.observe(() => plan(database, world, scenario)));
    const engine = new TaskEngine({ database, events: new Events(database.db, kind), kinds: kinds(mortal), log: () => undefined });
    const { db } = database;
    const look = (): Promise<string | undefined> => mortal.observe(async () => {
      const { status } = await db.selectFrom('tasks').select('status').where('id', '=', task).executeTakeFirstOrThrow();
      if (ENDS.includes(status)) return status;
      const running = await db.selectFrom('task_steps').select('kind').where('task_id', '=', task).where('status', '=', 'running').execute();
      if (running.some((step) => step.kind === 'long')) {
        await db.updateTable('tasks').set({ cancel_requested: 1 }).where('id', '=', task).execute();
        engine.wake();
      }
      return undefined;
    });
    try {
      await engine.start(() => undefined).catch((error: unknown) => {
        if (!(error instanceof Death)) throw error;
      });
      for (;;) {
        const status = await look();
        if (status !== undefined || mortal.dead) return { task, status };
        await pause(1);
      }
    } finally {
      await engine.stop();
      await mortal.observe(() => database.close());
    }
  }

  it.each(Object.keys(SCENARIOS) as Scenario[])('one that has %s', { timeout: 600_000 }, async (scenario) => {
    let deaths = 0;
    for (let moment = 1; ; moment += STRIDE[kind][scenario]) {
      const world = path.join(directory, `${scenario}-${moment}`);
      fs.mkdirSync(world);
      fs.writeFileSync(path.join(world, 'old'), 'old');
      const first = new Mortal(moment);
      const begun = await work(first, world, scenario);
      // Whoever comes next ends it. He dies, too, early on; the one after him does not.
      if (first.dead) {
        deaths++;
        const second = new Mortal(3 + (moment % 7));
        const again = await work(second, world, scenario, begun.task);
        const ended = again.status === undefined ? await work(new Mortal(), world, scenario, begun.task) : again;
        expect({ moment, status: ended.status, left: fs.readdirSync(world).sort() }).toEqual({ moment, status: scenario, left: SCENARIOS[scenario].left });
        expect(fs.readFileSync(path.join(world, 'old'), 'utf8')).toBe('old');
        continue;
      }
      expect({ status: begun.status, left: fs.readdirSync(world).sort() }).toEqual({ status: scenario, left: SCENARIOS[scenario].left });
      break;
    }
    console.log(`${kind}: a task that has ${scenario} was killed at ${deaths} moments`);
    expect(deaths).toBeGreaterThan(40 / STRIDE[kind][scenario]);
  });
});
