/** `lunfs install-units`: what this host needs beside the program: units of systemd, and the helpers of mount(8) in /sbin. */
import * as fs from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { examples } from '../command.js';
import { print } from '../output.js';

const ROOT = path.resolve(import.meta.dirname, '../../../..');
const UNITS = path.join(ROOT, 'packaging/systemd');
const BIN = path.resolve(import.meta.dirname, '../../bin');

export function installUnits(program: Command): void {
  program
    .command('install-units')
    .summary("install lunfsd's systemd units and mount(8)'s helpers")
    .description('Write the units lunfsd.service (the daemon, ordered between network, iSCSI, multipath and guests) and lunfs-awake.service (no sleep meanwhile) with the paths of this installation, and link mount.fuse.lunfs and umount.fuse.lunfs into /sbin. Nothing is started or enabled. Repeat it when Node or lunfs has moved.')
    .option('--root <dir>', 'below this directory instead of /', '/')
    .addHelpText('after', examples('lunfs install-units', 'systemctl daemon-reload', 'systemctl enable --now lunfsd lunfs-awake'))
    .action(({ root }: { root: string }) => {
      const units = path.join(root, 'etc/systemd/system');
      const sbin = path.join(root, 'sbin');
      for (const directory of [units, sbin]) fs.mkdirSync(directory, { recursive: true });
      const values: Readonly<Record<string, string>> = { node: process.execPath, lunfs: path.join(BIN, 'lunfs.cjs'), root: ROOT };
      const odd = Object.values(values).find((value) => /[\s"'\\%$]/.test(value));
      if (odd !== undefined) throw new UsageError('BAD_PATH', 'EINVAL', `${odd}: systemd would not take this path as it is; install lunfs and Node where names are plain`, { path: odd });
      for (const name of fs.readdirSync(UNITS)) {
        const text = fs.readFileSync(path.join(UNITS, name), 'utf8').replaceAll(/@(\w+)@/g, (_, key: string) => values[key]);
        fs.writeFileSync(path.join(units, name), text);
        print(path.join(units, name));
      }
      for (const name of ['mount.fuse.lunfs', 'umount.fuse.lunfs']) {
        const link = path.join(sbin, name);
        fs.rmSync(link, { force: true });
        fs.symlinkSync(path.join(BIN, `${name}.cjs`), link);
        print(`${link} -> ${path.join(BIN, `${name}.cjs`)}`);
      }
    });
}
