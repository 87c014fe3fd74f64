// scripts/test.mjs runs suites by directory (scripts/lib/suites.mjs). Tests of the engine run twice: with locks that are granted
// at once, and again (project `hostile`) over a Dlm that wants every lock back, see packages/ocfs2/test/support/hostile.ts.
import os from 'node:os';
import { defineConfig } from 'vitest/config';

// A summary has the message of a failed assertion without its difference: it is to say what was found, not "[ { …(4) } ]".
const common = { pool: 'forks', testTimeout: 60_000, hookTimeout: 60_000, chaiConfig: { truncateThreshold: 400 } };

// Tests that mount no volume, and tests that choose their locks themselves, both kinds among them.
const ownLocks = [
  'packages/ocfs2/test/{check,cluster,format,inspect,journal,locking,mkfs,txn}/**', 'packages/ocfs2/test/volume/*crash*.test.ts', 'packages/ocfs2/test/crash/**',
  'packages/ocfs2/test/volume/{model,namespace-model,hostile-cluster,downgrade,file-backend,grow}.test.ts', 'packages/ocfs2/test/concurrency/**', 'packages/ocfs2/test/quota/**',
];

export default defineConfig({
  test: {
    disableConsoleIntercept: true,
    // Vitest leaves one core idle, which is half of two.
    maxWorkers: os.availableParallelism(),
    projects: [
      { test: { ...common, name: 'local', include: ['packages/*/test/**/*.test.ts', 'test/**/*.test.ts'], exclude: ['packages/ocfs2/**'] } },
      { test: { ...common, name: 'engine', include: ['packages/ocfs2/test/**/*.test.ts'], setupFiles: ['packages/ocfs2/test/support/debug.ts'] } },
      {
        test: {
          ...common, name: 'hostile', include: ['packages/ocfs2/test/**/*.test.ts'], exclude: ownLocks, testTimeout: 300_000,
          env: { LUNFS_LOCKS: 'hostile' }, setupFiles: ['packages/ocfs2/test/support/debug.ts', 'packages/ocfs2/test/support/hostile.ts'],
        },
      },
    ],
  },
});
