import { IoError, UsageError } from '@lunfs/device';
import { expect, it } from 'vitest';
import { NbdRequestError, wireErrno, wireMessage } from '../src/errors.js';
import { NbdErrno } from '../src/protocol.js';

it.each([
  ['EROFS', NbdErrno.EPERM], ['EACCES', NbdErrno.EPERM], ['ENOSPC', NbdErrno.ENOSPC], ['EDQUOT', NbdErrno.ENOSPC], ['EFBIG', NbdErrno.ENOSPC],
  ['EINVAL', NbdErrno.EINVAL], ['ENOMEM', NbdErrno.ENOMEM], ['ESHUTDOWN', NbdErrno.ESHUTDOWN], ['EIO', NbdErrno.EIO], ['ESTALE', NbdErrno.EIO],
] as const)('%s goes out as %i', (errno, wire) => {
  expect(wireErrno(new UsageError('TEST', errno, 'test'))).toBe(wire);
});

it('takes anything that was thrown', () => {
  expect(wireErrno('text')).toBe(NbdErrno.EIO);
  expect(wireErrno(Object.assign(new Error('full'), { code: 'ENOSPC' }))).toBe(NbdErrno.ENOSPC);
  expect(wireMessage(new IoError('TEST', 'x'.repeat(10_000)))).toHaveLength(1024);
  expect(new NbdRequestError(NbdErrno.ENOTSUP, 'no')).toMatchObject({ errno: 'EOPNOTSUPP', message: 'no: ENOTSUP' });
});
