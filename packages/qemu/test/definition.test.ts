/** Definitions: defaults, refusals, and the files they are kept in. */
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { LunfsError } from '@lunfs/device';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { seed } from '../../../test/support/temp.js';
import { parseDefinition } from '../src/definition.js';
import { Definitions } from '../src/definitions.js';

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-definitions-'));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));
const web = { name: 'web1', disks: [{ id: 'root', source: '/dev/mapper/lun0:/web1.raw' }], nics: [{ kind: 'user' }, { kind: 'bridge', bridge: 'br0' }] };

describe('a definition', () => {
  it('gets what it leaves out, and is the same when parsed again', () => {
    const made = parseDefinition(web);
    expect(made).toMatchObject({
      memoryMiB: 1024, cpus: 1, machine: 'q35', accel: 'auto', boot: { kind: 'bios' }, serial: true, vnc: false, channels: [],
      disks: [{ id: 'root', readOnly: false, serial: 'root', keepSpace: false }], nics: [{ kind: 'user' }, { kind: 'bridge', bridge: 'br0' }],
    });
    expect(made.uuid).toMatch(/^[0-9a-f-]{36}$/);
    expect(made.nics[0].mac).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/);
    expect(made.nics[0].mac).not.toBe(made.nics[1].mac);
    expect(parseDefinition(JSON.parse(JSON.stringify(made)))).toEqual(made);
    // Cards of a guest keep their addresses.
    expect(parseDefinition({ ...web, uuid: made.uuid }).nics).toEqual(made.nics);
  });

  it.each([
    [{ ...web, name: '../x' }, 'name must be'], [{ ...web, memory: 5 }, 'memory must be left out'], [{ ...web, memoryMiB: '5' }, 'memoryMiB must be a whole number'], [{ ...web, cpus: 0 }, 'from 1 to 255'],
    [{ ...web, machine: 'q35,accel=kvm' }, 'machine must be'], [{ ...web, accel: 'xen' }, 'one of auto, kvm, tcg'], [{ ...web, boot: { kind: 'kernel', kernel: 'vmlinuz' } }, 'boot: kernel must be an absolute path'],
    [{ ...web, disks: [{ id: 'root', source: 'web1.raw' }] }, 'disks[0]: source must be DEVICE:/path'], [{ ...web, disks: [...web.disks, { id: 'root', source: 'x:/y' }] }, 'root is there twice'],
    [{ ...web, disks: [{ id: 'a', source: 'x:/y' }, { id: 'b', source: 'x:/y' }] }, 'x:/y is there twice'], [{ ...web, nics: [{ kind: 'tap', device: 'a name that is long' }] }, 'nics[0]: device must be'],
    [{ ...web, nics: [{ kind: 'user', mac: '01:00:00:00:00:01' }] }, 'no multicast'], [{ ...web, channels: ['a b'] }, 'channels must be'], [[], 'must be an object'], [{ ...web, disks: {} }, 'disks must be a list'],
  ])('is refused with the field named: %j', (input, words) => {
    expect(() => parseDefinition(input)).toThrow(expect.objectContaining({ code: 'GUEST_DEFINITION', message: expect.stringContaining(words) as string }) as Error);
  });

  it('never raises anything but GUEST_DEFINITION, whatever it is', () => {
    const value = fc.jsonValue({ maxDepth: 3 });
    const some = fc.record({ name: fc.oneof(value, fc.constant('a')), disks: fc.oneof(value, fc.array(fc.record({ id: fc.oneof(value, fc.string()), source: value }))), nics: fc.oneof(value, fc.array(value)), boot: value, __proto__: value }, { requiredKeys: [] });
    fc.assert(fc.property(fc.oneof(value, some), (input) => {
      try {
        parseDefinition(input);
      } catch (error) {
        expect((error as LunfsError).code).toBe('GUEST_DEFINITION');
      }
    }), { seed: seed('definitions'), numRuns: 1000 });
  });
});

describe('the definitions of a host', () => {
  it('are kept by name, changed only when that is meant, and keep their UUID then', () => {
    const store = new Definitions(path.join(directory, 'guests'));
    expect(store.names()).toEqual([]);
    const made = store.put(web, { replace: false });
    expect(store.get('web1')).toEqual(made);
    expect(() => store.put(web, { replace: false })).toThrow(expect.objectContaining({ code: 'GUEST_EXISTS' }) as Error);
    expect(store.put({ ...web, cpus: 2 }, { replace: true })).toMatchObject({ cpus: 2, uuid: made.uuid });
    expect(new Definitions(path.join(directory, 'guests')).names()).toEqual(['web1']);
    expect(fs.readdirSync(path.join(directory, 'guests'))).toEqual(['web1.json']);
    store.remove('web1');
    expect(() => store.get('web1')).toThrow(expect.objectContaining({ code: 'GUEST_UNKNOWN' }) as Error);
    expect(() => store.remove('web1')).toThrow(expect.objectContaining({ code: 'GUEST_UNKNOWN' }) as Error);
    expect(() => store.get('../web1')).toThrow(expect.objectContaining({ code: 'BAD_GUEST_NAME' }) as Error);
  });

  it('tell of a file that was spoilt by hand', () => {
    const store = new Definitions(path.join(directory, 'spoilt'));
    fs.mkdirSync(store.directory);
    fs.writeFileSync(path.join(store.directory, 'a.json'), '{"name": "a"');
    fs.writeFileSync(path.join(store.directory, 'b.json'), '{"name": "a"}');
    expect(() => store.get('a')).toThrow(expect.objectContaining({ code: 'GUEST_FILE' }) as Error);
    expect(() => store.get('b')).toThrow(/defines a guest named a/);
  });
});
