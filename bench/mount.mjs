// A mounted lunfs volume (4 KiB clusters, a thick disk, an empty directory) against libfuse's passthrough_ll and fuse2fs: the same runs as
// bench/fuse-raw.mjs, with the whole file system behind the session instead of a mapping and a table in memory.
// Takes about 4 minutes. usage: node bench/mount.mjs [--writeback] [options of fuse-raw.mjs]
process.argv.push('--ours', 'volume');
await import('./fuse-raw.mjs');
