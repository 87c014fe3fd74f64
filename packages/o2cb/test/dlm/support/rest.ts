/** What must be true of a domain when nothing is under way. */
import type { Bench } from './bench.js';

/** Every contradiction between the members, and everything that is left over. */
export function contradictions(bench: Bench): string[] {
  const found: string[] = [];
  const members = bench.members();
  const numbers = members.map((node) => node.number);
  const names = new Set(members.flatMap((node) => [...node.domain.core.resources.keys()]));
  for (const { name, domain: { core } } of members) {
    const say = (what: string) => found.push(`${name}: ${what}`);
    if ([...core.domain].join() !== numbers.join()) say(`members ${[...core.domain].join()} instead of ${numbers.join()}`);
    if (core.recovery.lowest !== undefined) say(`not recovered: ${[...core.recovery].join()}`);
    if (core.reco.dead !== 255 || core.reco.master !== 255 || core.reco.active || core.reco.finalizing) say(`recovery state ${JSON.stringify([core.reco.dead, core.reco.master, core.reco.active, core.reco.finalizing])}`);
    if (core.joiningNode !== 255) say(`node ${core.joiningNode} joins`);
    for (const mle of core.mles.values()) say(`${mle.name}: entry of kind ${mle.kind}, candidates ${[...mle.maybe].join()}, master ${mle.master}`);
    if (core.attached.size > 0 && core.mles.size === 0) say('an entry still follows the members');
    if (core.recovering.size > 0) say(`${core.recovering.size} resources wait for recovery`);
    if (core.reclaimed.size > 0) say(`${core.reclaimed.size} resources are not claimed yet`);
    for (const res of core.resources.values()) {
      if (res.state !== 0) say(`${res.name}: state ${res.state}`);
      if (res.inflight !== 0 || res.asserting !== 0 || res.assertWorkers !== 0 || res.reserved !== 0 || res.dirty || res.migrationPending || res.taking !== undefined) {
        say(`${res.name}: inflight ${res.inflight}, asserting ${res.asserting} ${res.assertWorkers}, reserved ${res.reserved}, dirty ${res.dirty}`);
      }
      for (const lock of res.locks()) if (lock.pending !== undefined) say(`${res.name}: ${lock.pending} is pending`);
    }
  }
  for (const name of names) {
    const copies = members.flatMap((node) => {
      const res = node.domain.core.resources.get(name);
      return res === undefined ? [] : [{ node, res }];
    });
    const owners = new Set(copies.map(({ res }) => res.owner));
    const owner = copies.find(({ node, res }) => res.owner === node.number);
    if (owners.size !== 1 || owner === undefined) {
      found.push(`${name}: owners ${copies.map(({ node, res }) => `${node.number} says ${res.owner}`).join(', ')}`);
      continue;
    }
    const refs = [...owner.res.refmap].join();
    const expected = copies.filter((copy) => copy !== owner).map(({ node }) => node.number).join();
    if (refs !== expected) found.push(`${name}: the owner ${owner.node.number} knows references ${refs || 'none'}, copies are at ${expected || 'none'}`);
    const locks = (list: { cookie: bigint; node: number; mode: number; convertMode: number; queue: string | undefined }[]) =>
      list.map((lock) => `${lock.node}:${lock.cookie & 0xffffffn} ${lock.mode}>${lock.convertMode} ${lock.queue}`).sort().join('; ');
    const mastered = locks([...owner.res.locks()]);
    const own = locks(copies.flatMap(({ node, res }) => [...res.locks()].filter((lock) => lock.node === node.number)));
    if (mastered !== own) found.push(`${name}: the owner has ${mastered}; the nodes have ${own}`);
    for (const { node, res } of copies) if (node !== owner.node) for (const lock of res.locks()) if (lock.node !== node.number) found.push(`${name}: node ${node.number} keeps a lock of node ${lock.node}`);
  }
  return found;
}
