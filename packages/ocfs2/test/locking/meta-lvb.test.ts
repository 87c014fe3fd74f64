import { expect, test } from 'vitest';
import { Block, Dinode } from '../../src/format/index.js';
import { decodeMetaLvb, encodeMetaLvb } from '../../src/locking/index.js';

test('the value block of a meta lock is that of a kernel node', () => {
  // As a kernel node sent it (cluster-protocols.md 7.2): an inline file of 6 bytes.
  const captured = '0500 0001 00000000 00000000 00000000 1ac0bb05f342b30a 1ac0bb05c6ea0432 1ac0bb05c6ea0432 0000000000000006 81a4 0001 00000000 1f23c589 00000000';
  const time = (packed: bigint): [number, number] => [Number(packed >> 30n), Number(packed & 0x3fff_ffffn)];
  const di = Dinode.at(new Block('', 0, new Uint8Array(512)));
  [di.atime, di.atimeNsec] = time(0x1ac0bb05f342b30an);
  [di.ctime, di.ctimeNsec] = time(0x1ac0bb05c6ea0432n);
  [di.mtime, di.mtimeNsec] = time(0x1ac0bb05c6ea0432n);
  Object.assign(di, { dynFeatures: 1, size: 6, mode: 0o100644, links: 1, generation: 0x1f23c589 });
  expect(Buffer.from(encodeMetaLvb(di)!).toString('hex')).toBe(captured.replaceAll(' ', ''));
  expect(decodeMetaLvb(Buffer.from(captured.replaceAll(' ', ''), 'hex'))).toMatchObject({
    dynFeatures: 1, clusters: 0, size: 6, mode: 0o100644, links: 1, generation: 0x1f23c589, attr: 0, uid: 0, gid: 0, mtime: { sec: di.mtime, nsec: di.mtimeNsec },
  });
  expect(decodeMetaLvb(new Uint8Array(64))).toBeUndefined();
  di.dynFeatures = 8;
  di.linksHi = 1;
  expect(encodeMetaLvb(di)).toBeUndefined();
});
