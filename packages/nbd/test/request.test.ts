import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Command, CommandFlag, MAX_PAYLOAD, NbdErrno } from '../src/protocol.js';
import { CLOSE, isWrite, validate, wireOffset, type Agreed } from '../src/request.js';

const agreed: Agreed = { size: 1 << 20, readOnly: false, structured: true, allocationContext: true };

describe('validate', () => {
  it.each([
    ['a read to the last byte', Command.READ, 0, (1 << 20) - 1, 1, 0],
    ['a read past the end', Command.READ, 0, 1 << 20, 1, NbdErrno.EINVAL],
    ['a write past the end', Command.WRITE, 0, 1 << 20, 1, NbdErrno.ENOSPC],
    ['zeroes past the end', Command.WRITE_ZEROES, 0, 0, (1 << 20) + 1, NbdErrno.ENOSPC],
    ['a trim past the end', Command.TRIM, 0, 0, (1 << 20) + 1, NbdErrno.EINVAL],
    ['a status past the end', Command.BLOCK_STATUS, 0, 0, (1 << 20) + 1, NbdErrno.EINVAL],
    ['a status of nothing', Command.BLOCK_STATUS, 0, 0, 0, NbdErrno.EINVAL],
    ['an endless write', Command.WRITE, 0, 0, MAX_PAYLOAD + 1, CLOSE],
    ['a flush', Command.FLUSH, 0, 0, 0, 0],
    ['a flush of a range', Command.FLUSH, 0, 0, 4096, NbdErrno.EINVAL],
    ['FUA on a read', Command.READ, CommandFlag.FUA, 0, 4096, 0],
    ['DF on a write', Command.WRITE, CommandFlag.DF, 0, 4096, NbdErrno.EINVAL],
    ['an unknown flag', Command.READ, 1 << 15, 0, 4096, NbdErrno.EINVAL],
    ['an unknown command', 8, 0, 0, 0, NbdErrno.EINVAL],
    ['an offset beyond 2^53', Command.READ, 0, wireOffset(0xffff_ffff, 0xffff_ffff), 1, NbdErrno.EINVAL],
  ])('%s', (_what, command, flags, offset, length, answer) => {
    expect(validate(agreed, command, flags, offset, length)).toBe(answer);
  });

  it('refuses what was not agreed', () => {
    const plain = { ...agreed, structured: false, allocationContext: false };
    expect(validate(plain, Command.READ, CommandFlag.DF, 0, 512)).toBe(NbdErrno.EINVAL);
    expect(validate(plain, Command.BLOCK_STATUS, 0, 0, 512)).toBe(NbdErrno.EINVAL);
    for (const command of [Command.WRITE, Command.TRIM, Command.WRITE_ZEROES]) {
      expect(validate({ ...agreed, readOnly: true }, command, 0, 0, 512)).toBe(NbdErrno.EPERM);
    }
  });

  it('lets nothing through that is outside the export, read-only or too long, whatever the header says', () => {
    const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
    const u16 = fc.integer({ min: 0, max: 0xffff });
    fc.assert(fc.property(fc.oneof(fc.integer({ min: 0, max: 9 }), u16), fc.oneof(fc.constant(0), u16), fc.oneof(fc.constant(0), u32), u32, fc.oneof(fc.integer({ min: 0, max: 1 << 21 }), u32), fc.boolean(), (command, flags, high, low, length, readOnly) => {
      const offset = wireOffset(high, low);
      if (validate({ ...agreed, readOnly }, command, flags, offset, length) !== 0) return;
      expect(command).toBeLessThanOrEqual(Command.BLOCK_STATUS);
      if (command === Command.DISC) return;
      expect(offset + length).toBeLessThanOrEqual(agreed.size);
      expect(readOnly && isWrite(command)).toBe(false);
    }));
  });
});

it('keeps every offset that fits a safe integer', () => {
  fc.assert(fc.property(fc.maxSafeNat(), (offset) => {
    expect(wireOffset(Math.floor(offset / 2 ** 32), offset % 2 ** 32)).toBe(offset);
  }));
});
