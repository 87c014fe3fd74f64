#!/usr/bin/env node
// mount(8)'s helper for the type fuse.lunfs; a link to it is /sbin/mount.fuse.lunfs (lunfs install-units makes it).
'use strict';
process.argv.splice(2, 0, 'mount.fuse.lunfs');
require('./lunfs.cjs');
