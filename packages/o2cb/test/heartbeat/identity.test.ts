import { expect, it } from 'vitest';
import { refuseClone, refuseUnseen } from '../../src/heartbeat/identity.js';
import { NodeMap } from '../../src/node-map.js';

it('refuses a second device with the UUID, by name and with the remedy', () => {
  const present = [{ device: '/dev/sda', uuid: 'A' }, { device: '/dev/sdb', uuid: 'B' }, { device: '/dev/sdc', uuid: 'A' }];
  expect(() => refuseClone('/dev/sdb', 'B', present)).not.toThrow();
  expect(() => refuseClone('/dev/sda', 'A', present)).toThrow(/^\/dev\/sda and \/dev\/sdc carry the same volume UUID A: .*tunefs\.ocfs2 -U DEVICE$/);
});

it('refuses a volume whose members are not on our disk', () => {
  const map = (...nodes: number[]) => new NodeMap(nodes);
  const refuse = (beating: NodeMap, connected: NodeMap, live: NodeMap, members: NodeMap) => () => refuseUnseen('vms', { local: 1, beating, connected, live, members });
  expect(refuse(map(1, 2), map(1, 2), map(1, 2), map(2))).not.toThrow();
  // Node 3 has another volume in common with us, and not this one.
  expect(refuse(map(1, 2), map(1, 2, 3), map(1, 2, 3), map(2))).not.toThrow();
  expect(refuse(map(1, 2), map(1, 2, 3), map(1, 2, 3), map(2, 3))).toThrow(/^vms: of node 3 there is no beat on the disk as this host sees it, though it uses this volume on the network/);
  expect(refuse(map(1), map(1, 2), map(1), map())).toThrow(/^vms: of node 2 .* though it is reached on the network/);
  // We beat ourselves, and need not be connected to ourselves.
  expect(refuse(map(), map(1), map(), map(1))).not.toThrow();
});
