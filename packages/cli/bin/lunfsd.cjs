#!/usr/bin/env node
// The daemon under its own name: `lunfsd` is `lunfs up`, with its options (lunfsd --foreground for a service manager).
'use strict';
process.argv.splice(2, 0, 'up');
require('./lunfs.cjs');
