/**
 * Load on the nodes of a cluster whose deaths are looked at: names, a rename and an append, in turn, each synced before it counts. What a node
 * has acknowledged must be there in the end, whoever died in between.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import type { LunfsHost } from './lunfs-host.js';
import type { KernelNode } from './machines.js';
import type { Cleanup } from './temp.js';

/** One round after the other until the file `stop` is there; a round that fails is none: where a mount is gone for a while its directory is, too. */
const rounds = (mount: string, who: string, stop: string, say: string): string => `d=${mount}/${who}; mkdir $d; i=0; while [ ! -e ${stop} ]; do i=$((i+1))
  echo $i > $d/new && sync $d/new && mv $d/new $d/f$i && echo $i >> $d/log && sync $d/log $d && ${say} && sleep 0.2 || sleep 0.5; done`;

export interface Load {
  /** The node's directory. */
  readonly who: string;
  /** Rounds that were acknowledged so far. */
  acknowledged(): readonly number[];
  /** Ends it. Resolves with the acknowledged rounds, whether the node lives or not. */
  stop(): Promise<readonly number[]>;
}

/** Load by a program of this machine in the mount of a host of ours. */
export function hostLoad(cleanup: Cleanup, { mount, directory }: LunfsHost, who: string): Load {
  const stop = path.join(directory, `stop-${who}`);
  const child: ChildProcess = spawn('bash', ['--norc', '-c', rounds(mount, who, stop, 'echo $i')], { cwd: directory, stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let said = '';
  child.stdout!.on('data', (part) => (said += String(part)));
  const end = async (): Promise<void> => {
    fs.writeFileSync(stop, '');
    await ended;
  };
  cleanup.add(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const acknowledged = (): number[] => said.split('\n').slice(0, -1).map(Number);
  return { who, acknowledged, stop: () => end().then(acknowledged) };
}

/** Load on a kernel node, told by its console, which outlives it. */
export function kernelLoad(kernel: KernelNode, who: string): Load {
  const ended = kernel.run(rounds('/mnt', who, `/tmp/stop-${who}`, `echo done ${who} $i > /dev/ttyS0`), { timeoutMs: 3_600_000 }).catch(() => undefined);
  const acknowledged = (): number[] => [...kernel.machine.console.matchAll(new RegExp(`done ${who} (\\d+)`, 'g'))].map(([, round]) => Number(round));
  return {
    who, acknowledged,
    stop: async () => {
      if (kernel.machine.running) await kernel.run(`touch /tmp/stop-${who}`).catch(() => undefined);
      await ended;
      return acknowledged();
    },
  };
}

/** A shell command that prints what is missing in `mount` of acknowledged rounds: nothing when all is there. */
export function missing(mount: string, who: string, acknowledged: readonly number[]): string {
  return `cd ${mount}/${who}; declare -A lines; while read -r line; do lines[$line]=1; done < log
    for i in ${acknowledged.join(' ')}; do read -r content < f$i && [ "$content" = $i ] || echo f$i; [ "\${lines[$i]}" ] || echo line $i; done`;
}
