/**
 * Which script crashes in the midst of each operation of the engine. The list of operations is the engine's own (its exports and
 * the methods of its classes): a new one fails here until it has a step, or a reason not to need one.
 */
import { Random } from '@lunfs/device';
import { expect, test } from 'vitest';
import * as alloc from '../../src/alloc/index.js';
import * as quota from '../../src/quota/index.js';
import * as volume from '../../src/volume/index.js';
import { CRASH_VOLUMES } from '../support/crash.js';
import { SCRIPTS, randomSteps } from '../support/crash-scripts.js';
import type { Step } from '../support/posix.js';
import { geometryOf } from '../support/survive.js';

/** A script and the step of it that is this operation. */
type Shown = readonly [script: string, step: Step['do']];

const READS = 'changes nothing';
const IN_ALL = 'in every script';
const PART = 'a part of other operations';
const WRITE_FILE = 'writeFile and nothing besides, under locks of its own';
const AMONG_MEMBERS = 'what a member does of another that died: test/cluster/recovery-deaths.test.ts, where members die in it';
const GROWTH = 'test/crash/grow.test.ts crashes at each write of it';
const LEASES = 'test/crash/leases.test.ts crashes at each request of them';
const OFFLINE = 'one write of one sector and a flush, which is there or not; offline, no journal';

const OPERATIONS: Readonly<Record<string, Shown | typeof READS | typeof IN_ALL | typeof PART | typeof WRITE_FILE | typeof AMONG_MEMBERS | typeof GROWTH | typeof LEASES | typeof OFFLINE>> = {
  'Namespace.root': READS, 'Namespace.lookup': READS, 'Namespace.find': READS, 'Namespace.refer': READS, 'Namespace.attributes': READS, 'Namespace.readlink': READS,
  'Namespace.getXattr': READS, 'Namespace.listXattr': READS, 'Namespace.statistics': READS, 'Namespace.readAhead': READS,
  'Namespace.create': ['names', 'mkdir'], 'Namespace.link': ['names', 'link'], 'Namespace.unlink': ['names', 'unlink'], 'Namespace.rmdir': ['names', 'rmdir'], 'Namespace.rename': ['names', 'rename'],
  'Namespace.reflink': ['clones', 'reflink'], 'Namespace.readdir': ['acls', 'list'], 'Namespace.change': ['attributes', 'change'], 'Namespace.setFlags': ['acls', 'flags'],
  'Namespace.setXattr': ['xattrs', 'setxattr'], 'Namespace.dropCapability': ['xattrs', 'uncap'], 'Namespace.removeXattr': ['xattrs', 'removexattr'], 'Namespace.forget': ['names', 'close'],
  'Volume.mount': IN_ALL, 'Volume.geo': READS, 'Volume.sync': ['files', 'sync'], 'Volume.unmount': IN_ALL, 'Volume.stopChanges': READS, 'Volume.caches': READS,
  'Volume.trim': ['space', 'trim'], 'Volume.grow': GROWTH, 'Volume.planGrowth': READS, 'alloc.addClusters': PART, 'alloc.bitmapShape': READS, 'alloc.growthSteps': READS,
  'Volume.finishRecovery': AMONG_MEMBERS, 'volume.Flocks': READS, 'volume.Leases': LEASES, 'volume.readLease': READS,
  'SharedFile.gate': READS, 'SharedFile.gated': READS, 'SharedFile.size': READS, 'SharedFile.load': READS, 'SharedFile.backend': READS, 'SharedFile.close': READS,
  'backend.direct': READS, 'backend.size': READS, 'backend.readOnly': READS, 'backend.read': READS, 'backend.status': READS, 'backend.close': READS,
  'backend.map': ['sharing', 'map'], 'backend.write': ['sharing', 'export'], 'backend.flush': ['sharing', 'map'], 'backend.trim': ['sharing', 'export'], 'backend.writeZeroes': ['sharing', 'export'],
  'InodeTable.size': READS, 'InodeTable.has': READS, 'InodeTable.identity': READS, 'InodeTable.refer': PART, 'InodeTable.forget': ['names', 'close'], 'InodeTable.forgetAll': IN_ALL, 'InodeTable.wipeUnused': ['names', 'unlink'],
  'SlotMap.node': READS, 'SlotMap.taken': READS, 'SlotMap.slotFor': READS, 'SlotMap.set': IN_ALL,
  'Quota.types': READS, 'Quota.open': READS, 'Quota.start': IN_ALL, 'Quota.stop': READS, 'Quota.close': IN_ALL, 'Quota.sync': ['quota', 'syncquota'], 'Quota.report': READS, 'Quota.settings': READS, 'Quota.recover': AMONG_MEMBERS,
  'Quota.setLimits': ['quota', 'limits'], 'Quota.setSettings': ['quota', 'grace'], 'quota.asRequester': READS,
  'volume.writeFile': ['files', 'write'], 'volume.truncateFile': ['files', 'truncate'], 'volume.cutToSize': PART, 'volume.fallocate': ['space', 'reserve'], 'volume.punchHole': ['space', 'punch'], 'volume.zeroRange': ['space', 'zero'],
  'volume.preallocateContiguous': ['sharing', 'thick'], 'volume.shareRange': ['sharing', 'share'], 'volume.flushTimes': ['files', 'fsync'], 'volume.flushAllTimes': ['files', 'sync'], 'volume.noteInPlaceWrite': ['sharing', 'map'],
  'volume.mapRange': ['sharing', 'map'], 'volume.wipeInode': ['names', 'unlink'], 'volume.recoverOrphans': IN_ALL, 'volume.recoverJournals': IN_ALL, 'volume.settleSlots': IN_ALL,
  'volume.setOfflineMark': OFFLINE, 'volume.restoreSuperBlock': OFFLINE, 'volume.updateSuperBlock': OFFLINE,
  'volume.backupView': READS, 'volume.checkOffline': READS, 'volume.fileExtents': READS, 'volume.fileStatus': READS, 'volume.findBackupSupers': READS, 'volume.hasOfflineMark': READS, 'volume.maxFileSize': READS,
  'volume.needReflink': READS, 'volume.pause': READS, 'volume.readBackupSuper': READS, 'volume.readFile': READS, 'volume.recallMappings': READS, 'volume.registerGate': READS, 'volume.replayedView': READS,
  'volume.openWritable': READS, 'volume.pageRead': READS, 'volume.pageWrite': WRITE_FILE, 'volume.whilePagesMayGo': PART, 'volume.seekData': READS, 'volume.seekHole': READS, 'volume.watchHeartbeat': READS,
  'alloc.flushTruncateLog': ['space', 'release'], 'alloc.closeLocalAlloc': IN_ALL, 'alloc.claimClusters': PART, 'alloc.claimContiguous': PART, 'alloc.claimMeta': PART, 'alloc.claimOf': READS, 'alloc.freeClustersNow': PART,
  'alloc.freeMeta': PART, 'alloc.beginDiscard': PART, 'alloc.endDiscard': PART, 'alloc.groupCount': READS, 'alloc.groupOf': READS, 'alloc.heldClusters': READS, 'alloc.releaseClusters': PART, 'alloc.stampMeta': PART, 'alloc.statClusters': READS,
  'alloc.takeOverClusters': AMONG_MEMBERS, 'alloc.freeTakenOver': AMONG_MEMBERS, 'alloc.mayHoldClusters': READS,
};

/** Every kind of step; the compiler sees to it that none is missing. */
const STEPS: Readonly<Record<Step['do'], true>> = {
  create: true, mkdir: true, unlink: true, rmdir: true, symlink: true, mknod: true, link: true, reflink: true, change: true, rename: true, flags: true, setxattr: true, removexattr: true, acl: true, uncap: true, share: true,
  list: true, limits: true, grace: true, write: true, export: true, map: true, thick: true, truncate: true, reserve: true, punch: true, zero: true, open: true, close: true, sync: true, ack: true, checkpoint: true, syncquota: true,
  release: true, trim: true, fsync: true, tick: true,
};

/** Methods and accessors of a class that are not its own business (`#`). */
function membersOf(name: string, { prototype }: { readonly prototype: object }): string[] {
  return Object.getOwnPropertyNames(prototype).filter((member) => member !== 'constructor').map((member) => `${name}.${member}`);
}

function operations(): string[] {
  const { Namespace, Volume, SharedFile, InodeTable, SlotMap, ...rest } = volume;
  const { Quota, ...others } = quota;
  const Backend = new SharedFile(undefined as never, 0, undefined).backend({ readOnly: true, survives: false }).constructor;
  const classes = { Namespace, Volume, SharedFile, InodeTable, SlotMap, Quota, backend: Backend as { readonly prototype: object } };
  const functions = (room: string, exported: object) => Object.entries(exported).filter(([, value]) => typeof value === 'function').map(([name]) => `${room}.${name}`);
  return [
    ...Object.entries(classes).flatMap(([name, one]) => membersOf(name, one)), 'Volume.mount', ...functions('volume', rest), ...functions('quota', others), ...functions('alloc', alloc),
  ].filter((name) => !name.startsWith('volume.system'));
}

test('every operation of the engine has a script that crashes in it, or needs none', () => {
  expect(operations().sort()).toEqual(Object.keys(OPERATIONS).sort());
  for (const spec of CRASH_VOLUMES) {
    for (const [operation, shown] of Object.entries(OPERATIONS)) {
      if (typeof shown === 'string') continue;
      const steps = SCRIPTS.find(({ name }) => name === shown[0])?.steps(geometryOf(spec)) ?? [];
      expect(steps.filter((step) => step.do === shown[1]).length, `${operation}: step "${shown[1]}" of script "${shown[0]}"`).toBeGreaterThan(0);
    }
  }
});

test('every kind of step is in a script, and in the mixtures that run at once', () => {
  const kinds = Object.keys(STEPS).sort();
  const inScripts = new Set(SCRIPTS.flatMap(({ steps }) => steps(geometryOf(CRASH_VOLUMES[0])).map((step) => step.do)));
  expect([...inScripts].sort()).toEqual(kinds);
  const inMixtures = new Set(randomSteps(new Random(1), 5000, { reach: 1 << 20, clusterSize: 4096 }).map((step) => step.do));
  expect([...inMixtures].sort()).toEqual(kinds);
});
