/**
 * Whether KVM really runs a guest here. /dev/kvm can exist and be of no use: refused, or nested in a way that takes seconds for what takes
 * milliseconds. So a machine is run under it whose firmware is the program below, and must end by itself in time.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { UsageError } from '@lunfs/device';
import { after } from './clock.js';
import { readJson, writeJson } from './files.js';
import { bootId } from './process.js';
import { isObject } from './qmp/message.js';

/** TCG needs 0.1 s; a KVM that takes longer than this is slower than TCG. */
const PROOF_MS = 5_000;
/** isa-debug-exit makes of the byte b that is written to it the exit status 2 b + 1. */
const PROOF_BYTE = 0x10;
const PAGE = 4096;

/**
 * The last page below 4 GiB, where an x86 begins (in real mode, at 0xfffffff0). It switches to protected mode, clears 16 MiB from 1 MiB on byte by byte
 * (a broken nested KVM traps into its host for each of them) and writes PROOF_BYTE to port 0xf4.
 */
function proofRom(): Buffer {
  const page = Buffer.alloc(PAGE);
  const code = [
    'fa', //                        cli
    '2e 66 0f 01 16 50 f0', //      lgdtl %cs:0xf050
    '0f 20 c0 0c 01 0f 22 c0', //   cr0 |= 1
    '66 ea 18 f0 ff ff 08 00', //   ljmpl $8, $0xfffff018
    '66 b8 10 00 8e d8 8e c0', //   (0x18, 32 bit) ds = es = 16
    'fc 31 c0', //                  cld; eax = 0
    'bf 00 00 10 00', //            edi = 1 MiB
    'b9 00 00 00 01', //            ecx = 16 MiB
    'f3 aa', //                     rep stosb
    `b0 ${PROOF_BYTE.toString(16)} e6 f4`, // outb PROOF_BYTE, 0xf4
    'f4 eb fd', //                  hlt, again
  ];
  Buffer.from(code.join('').replaceAll(' ', ''), 'hex').copy(page);
  // 0x38: the GDT: nothing, flat code, flat data. 0x50: its limit and address.
  page.writeBigUInt64LE(0x00cf9a000000ffffn, 0x40);
  page.writeBigUInt64LE(0x00cf92000000ffffn, 0x48);
  page.writeUInt16LE(23, 0x50);
  page.writeUInt32LE(0xfffff038, 0x52);
  // The reset vector: jmp to the page's first byte.
  Buffer.from('e90df0', 'hex').copy(page, 0xff0);
  return Buffer.concat([Buffer.alloc(0x10000 - PAGE), page]);
}

/** Which accelerator `accel` means on this host. The answer for `auto` is kept in `directory` until the host boots again. Throws NO_KVM for `kvm` where it does not work. */
export async function chooseAccel(accel: 'auto' | 'kvm' | 'tcg', program: string, directory: string): Promise<'kvm' | 'tcg'> {
  if (accel === 'tcg') return 'tcg';
  const works = await kvmWorks(program, directory);
  if (works) return 'kvm';
  if (accel === 'auto') return 'tcg';
  throw new UsageError('NO_KVM', 'ENODEV', `KVM does not work on this host: ${fs.existsSync('/dev/kvm') ? 'a machine under it did not come up in time' : 'there is no /dev/kvm'}. Without "accel": "kvm" the guest is emulated, which is slow`, {});
}

async function kvmWorks(program: string, directory: string): Promise<boolean> {
  try {
    fs.closeSync(fs.openSync('/dev/kvm', 'r+'));
  } catch {
    return false;
  }
  const verdict = path.join(directory, 'kvm.json');
  const boot = bootId();
  const kept = readJson(verdict);
  if (isObject(kept) && kept.bootId === boot && typeof kept.works === 'boolean') return kept.works;
  const works = await proveAccel('kvm', program, directory);
  writeJson(verdict, { bootId: boot, works });
  return works;
}

/** Whether a machine runs the proof under the accelerator in time. */
export async function proveAccel(accel: 'kvm' | 'tcg', program: string, directory: string): Promise<boolean> {
  const work = fs.mkdtempSync(path.join(directory, '.proof-'));
  const rom = path.join(work, 'rom');
  try {
    fs.writeFileSync(rom, proofRom());
    const child = spawn(program, [
      '-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'pc', '-accel', accel, '-m', '32', '-bios', rom, '-device', 'isa-debug-exit,iobase=0xf4,iosize=1',
    ], { stdio: 'ignore' });
    const cancel = after(PROOF_MS, () => child.kill('SIGKILL'));
    const status = await new Promise<number | null>((resolve) => {
      child.once('error', () => resolve(null));
      child.once('exit', resolve);
    });
    cancel();
    return status === 2 * PROOF_BYTE + 1;
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}
