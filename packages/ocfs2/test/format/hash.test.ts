import { describe, expect, it } from 'vitest';
import { blockCrc, blockEcc, heartbeatCrc, stampCheck, verifyCheck } from '../../src/format/blockcheck.js';
import { dirHash, uuidHash, xattrHash } from '../../src/format/dirhash.js';

// The vectors of the format reference, reproduced from kernel-written volumes.
const name = (s: string) => Buffer.from(s, 'utf8');

describe('directory hash', () => {
  it.each([
    ['a', 0x8865bc28, 0xa078d369], ['abcd', 0x408ee4fb, 0xceb415fb], ['abcde', 0x63c6326e, 0xa4497873], ['lost+found', 0x90c33ce2, 0x77620568],
    ['file-number-0001', 0x72ffc1f0, 0x0af784b3], ['file-number-00012', 0x5354cfa8, 0xc74a3801],
    ['a-rather-long-file-name-for-this-test-000001', 0x09e147e0, 0xc36553de], ['été-€-0001', 0x451ef42d, 0x22a2716f], ['.', 0, 0], ['..', 0, 0],
  ])('%s', (text, major, minor) => {
    expect(dirHash(name(text), 0x4b2a8a67, 0xfdf84bb0)).toEqual({ major, minor });
  });
  it('has an unsigned variant for names beyond ASCII', () => {
    expect(dirHash(name('été-€-0001'), 0x4b2a8a67, 0xfdf84bb0, true)).toEqual({ major: 0x8f178494, minor: 0xec358aeb });
  });
});

describe('attribute hash', () => {
  const uuid = uuidHash(Uint8Array.from({ length: 16 }, (_, i) => i));
  it('of the uuid', () => expect(uuid).toBe(0x66a2f2c9));
  it.each([['', 0x66a2f2c9], ['a', 0xd45e594d], ['bigger', 0x9b0aac60], ['tree-attribute-0280', 0xde7ad465], ['é', 0x8bcb224c]])('"%s"', (text, hash) => {
    expect(xattrHash(name(text), uuid)).toBe(hash);
  });
});

describe('block check', () => {
  const zeros = (n: number) => new Uint8Array(n);
  const ramp = (n: number) => Uint8Array.from({ length: n }, (_, i) => i & 0xff);
  const bit = (n: number, at: number, value: number) => { const b = zeros(n); b[at] = value; return b; };
  it.each([
    ['512 zeros', zeros(512), 0x4d558a87, 0], ['4096 zeros', zeros(4096), 0x38e3ffee, 0], ['bit 0', bit(512, 0, 1), 0x5d2751af, 3],
    ['last bit', bit(4096, 4095, 0x80), 0xd55b7cce, 0x8010], ['ramp 512', ramp(512), 0xe39eca89, 0x1f72], ['ramp 4096', ramp(4096), 0x5d6edf7d, 0xbf62],
  ])('%s', (_what, bytes, crc, ecc) => {
    expect(blockCrc(bytes, -1)).toBe(crc);
    expect(blockEcc(bytes, -1)).toBe(ecc);
  });
  it('heartbeat CRC', () => expect(heartbeatCrc(ramp(512))).toBe(0xaecb400e));
  it('mends one flipped bit anywhere outside the check, and rejects two', () => {
    const good = ramp(1024);
    stampCheck(good, 0x80);
    expect(verifyCheck(good, 0x80)).toBe('ok');
    for (let i = 0; i < 8192; i += 37) {
      if (i >> 3 >= 0x80 && i >> 3 < 0x88) continue;
      const bad = good.slice();
      bad[i >> 3] ^= 1 << (i & 7);
      expect(verifyCheck(bad, 0x80)).toBe('fixed');
      expect(bad).toEqual(good);
      bad[i >> 3] ^= 1 << (i & 7);
      bad[(i >> 3) ^ 0x100] ^= 4;
      expect(verifyCheck(bad.slice(), 0x80)).toBe('bad');
    }
  });
});
