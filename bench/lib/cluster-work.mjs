// One process on one host of bench/cluster.mjs: does what it is told by lines on stdin, in the mount it is given, and answers each with a line, the
// milliseconds it took. append FILE | stat FILE COUNT | write FILE COUNT | mkdir DIRECTORY | create DIRECTORY PREFIX COUNT
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';

const mount = process.argv[2];
const block = Buffer.alloc(4096, 7);
/** @type {Record<string, (...args: string[]) => void>} */
const work = {
  append: (file) => fs.appendFileSync(file, 'a line of the host whose turn it is\n'),
  stat: (file, count) => {
    for (let i = 0; i < Number(count); i++) fs.statSync(file);
  },
  write: (file, count) => {
    const fd = fs.openSync(file, 'r+');
    for (let i = 0; i < Number(count); i++) fs.writeSync(fd, block, 0, block.length, 0);
    fs.closeSync(fd);
  },
  mkdir: (directory) => fs.mkdirSync(directory),
  create: (directory, prefix, count) => {
    for (let i = 0; i < Number(count); i++) fs.closeSync(fs.openSync(path.join(directory, `${prefix}${i}`), 'wx'));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, file, ...rest] = line.split(' ');
  const started = performance.now();
  work[verb](path.join(mount, file), ...rest);
  process.stdout.write(`${performance.now() - started}\n`);
}
