// What a host of the demonstration does on the shared volume until it is told to end (SIGTERM): again and again it appends a line to a file
// that all hosts append to, makes and renames a file in a directory that all use, and writes a file that it alone writes. Everything is
// synced; then the round's number goes to stdout. usage: node host-work.mjs MOUNT NAME
import fs from 'node:fs';
import path from 'node:path';

const [mount, name] = process.argv.slice(2);
const shared = path.join(mount, 'shared');
/** Files of a host in the shared directory at a time. */
const KEPT = 8;
/** The machine has a guest and other hosts to run, too. */
const PAUSE_MS = 20;

let going = true;
process.on('SIGTERM', () => {
  going = false;
});

/** @param {string} file @param {string} flags @param {string} text */
function synced(file, flags, text) {
  const fd = fs.openSync(file, flags);
  try {
    fs.writeSync(fd, text);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

try {
  for (let round = 1; going; round++) {
    synced(path.join(mount, 'turns'), 'a', `${name} ${round}\n`);
    synced(path.join(shared, `${name}.new`), 'w', `${round}\n`);
    fs.renameSync(path.join(shared, `${name}.new`), path.join(shared, `${name}.${round}`));
    if (round > KEPT) fs.unlinkSync(path.join(shared, `${name}.${round - KEPT}`));
    synced(path.join(mount, `last-of-${name}`), 'w', `${round}\n`);
    fs.writeSync(1, `${round}\n`);
    await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS); });
  }
} catch (error) {
  process.stderr.write(`${name}: ${/** @type {Error} */ (error).message}\n`);
  process.exitCode = 1;
}
