#!/usr/bin/env node
// The launcher. CommonJS on purpose: loading an ES module starts libuv's thread pool, and its size can only be set before.
'use strict';
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

process.env.UV_THREADPOOL_SIZE ??= String(Math.min(16, Math.max(8, 2 * os.availableParallelism())));

const main = path.join(__dirname, '../dist/index.js');
if (!fs.existsSync(main)) {
  process.stderr.write(`lunfs: this checkout is not built; run "npm ci && npm run build" in ${path.resolve(__dirname, '../../..')}\n`);
  process.exitCode = 1;
} else {
  import(pathToFileURL(main).href).then(
    async ({ main }) => {
      process.exitCode = await main(process.argv.slice(2));
    },
    (error) => {
      process.stderr.write(`lunfs: ${error.stack}\n`);
      process.exitCode = 1;
    },
  );
}
