/** What every command has in common: how it is declared, how its failure becomes an exit code. */
import { type Command, CommanderError, Option } from 'commander';
import { LunfsError } from '@lunfs/device';
import { parseNumber } from './sizes.js';

/** Adds one command to the program. */
export type Define = (program: Command) => void;

/** Text of a help page's end. */
export function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

/** The option of commands that only read; its value goes to `withReader` or `withRawDevice`. */
export function backupSuperOption(): Option {
  return new Option('-B, --backup-super <number>', 'read the volume by a backup of its superblock: 1 to 6, or its block').argParser(parseNumber);
}

/** Work done with something left: an exit code without another message. */
export class Unsuccessful extends Error {
  constructor(readonly exitCode: number) {
    super(`exit code ${exitCode}`);
  }
}

/** fsck(8)'s bits. */
export const FSCK = { errorsLeft: 4, operational: 8, usage: 16 } as const;

/** Exit code of a failed command by the convention of its kind: mount(8), fsck(8), else 1, and 2 for what the command line cannot mean. */
export async function exitCode(command: string, error: unknown): Promise<number> {
  if (error instanceof Unsuccessful) return error.exitCode;
  const misused = error instanceof CommanderError || (error instanceof LunfsError && error.code.startsWith('BAD_'));
  switch (command) {
    case 'mount':
    case 'umount':
    case 'mount.fuse.lunfs':
    case 'umount.fuse.lunfs':
      if (misused) return 1;
      if (!(error instanceof LunfsError)) return 32;
      // Loaded here, so that commands that need no volume process do not load all that it consists of.
      return (await import('@lunfs/host')).exitCodeOf({ kind: error.kind, code: error.code, errno: error.errno, message: error.message, fields: {} });
    case 'check':
      if (misused) return FSCK.usage;
      return error instanceof LunfsError && error.kind === 'corruption' ? FSCK.errorsLeft : FSCK.operational;
    default:
      return misused ? 2 : 1;
  }
}
