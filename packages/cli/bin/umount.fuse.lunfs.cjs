#!/usr/bin/env node
// umount(8)'s helper for the type fuse.lunfs; a link to it is /sbin/umount.fuse.lunfs (lunfs install-units makes it).
'use strict';
process.argv.splice(2, 0, 'umount.fuse.lunfs');
require('./lunfs.cjs');
