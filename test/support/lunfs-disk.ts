/** A disk with this checkout's lunfs and the Node.js that runs these tests, for machines under QEMU (machines.ts) that are to run lunfs themselves. */
import fs from 'node:fs';
import path from 'node:path';
import type { Machine } from './machines.js';
import { must } from './temp.js';

const ROOT = path.resolve(import.meta.dirname, '../..');
/** Where it is mounted in the machine. */
const AT = '/root/lunfs';

/** Writes the disk into `file`: an ext4 with the program, its libraries, the built packages and what they need at run time. */
export async function makeLunfsDisk(file: string): Promise<string> {
  const tree = `${file}.tree`;
  const put = async (from: string, to: string): Promise<void> => {
    fs.mkdirSync(path.dirname(path.join(tree, to)), { recursive: true });
    await must('cp', ['-rL', from, path.join(tree, to)]);
  };
  await put(process.execPath, 'bin/node');
  // "NAME => PATH (ADDRESS)"; the machine has the C library's own, from this host as well.
  for (const [, library] of (await must('ldd', [process.execPath])).matchAll(/=> (\/\S+) \(0x/g)) await put(library, `lib/${path.basename(library)}`);
  await put(path.join(ROOT, 'node_modules/commander'), 'node_modules/commander');
  fs.mkdirSync(path.join(tree, 'node_modules/@lunfs'), { recursive: true });
  for (const name of fs.readdirSync(path.join(ROOT, 'packages'))) {
    for (const part of ['package.json', 'dist', 'bin']) if (fs.existsSync(path.join(ROOT, 'packages', name, part))) await put(path.join(ROOT, 'packages', name, part), `packages/${name}/${part}`);
    fs.symlinkSync(`../../packages/${name}`, path.join(tree, 'node_modules/@lunfs', name));
  }
  fs.closeSync(fs.openSync(file, 'w'));
  fs.truncateSync(file, 512 << 20);
  await must('mke2fs', ['-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', tree, file]);
  fs.rmSync(tree, { recursive: true });
  return file;
}

/** Mounts the disk in a machine. Returns the shell words that run lunfs there. */
export async function lunfsOn(node: Pick<Machine, 'must'>, device: string): Promise<string> {
  await node.must(`mkdir -p ${AT} /run/lunfs && mount -t ext4 -o ro ${device} ${AT}`);
  return `LUNFS_RUN_DIR=/run/lunfs LD_LIBRARY_PATH=${AT}/lib ${AT}/bin/node ${AT}/packages/cli/bin/lunfs.cjs`;
}
