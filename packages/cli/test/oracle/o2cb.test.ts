/** `lunfs o2cb` beside o2cb(8) of ocfs2-tools: each changes and reads what the other wrote, and both say the same. */
import * as fs from 'node:fs';
import path from 'node:path';
import { readClusterConf } from '@lunfs/o2cb';
import { afterAll, expect, it } from 'vitest';
import { exec, must } from '../../../../test/support/temp.js';
import { lunfsIn } from '../support/cli.js';

const cli = lunfsIn('o2cb');
afterAll(() => cli.end());
const file = path.join(cli.directory, 'cluster.conf');
const ours = (...args: string[]) => cli.must('o2cb', '--config-file', file, ...args);
const theirs = (...args: string[]) => must('o2cb', [`--config-file=${file}`, ...args]);
const UUIDS = ['77D95EF51C0149D2823674FCC162CF8B', 'DCDA2845177F4D59A0F2DCD8DE507CC3'];

/** Both list the same. */
async function agree(clusters: readonly string[], lists: readonly string[] = ['list-cluster']): Promise<void> {
  expect(await ours('list-clusters')).toBe(await theirs('list-clusters'));
  for (const cluster of clusters) {
    for (const what of lists) {
      for (const options of lists.length > 1 ? [[], ['--oneline']] : [[]]) expect(await ours(what, ...options, cluster), `${what} ${options} ${cluster}`).toBe(await theirs(what, ...options, cluster));
    }
  }
}

it('changes what o2cb wrote, and o2cb what we wrote', { timeout: 300_000 }, async () => {
  await ours('add-cluster', 'web');
  await ours('add-node', 'web', 'one', '--ip', '192.168.0.101');
  await ours('add-node', 'web', 'seven', '--ip', '192.168.0.107', '--number', '7', '--port', '7000');
  await agree(['web']);
  await theirs('add-node', '--ip', '192.168.0.102', 'web', 'two');
  await theirs('add-cluster', 'other');
  await theirs('add-heartbeat', 'web', UUIDS[0]);
  await agree(['web', 'other']);
  expect(JSON.parse(await ours('list-cluster', 'web', '--json'))).toEqual({
    name: 'web', heartbeatMode: 'local', regions: [UUIDS[0]],
    nodes: [
      { number: 0, name: 'one', address: '192.168.0.101', port: 7777 }, { number: 7, name: 'seven', address: '192.168.0.107', port: 7000 },
      { number: 1, name: 'two', address: '192.168.0.102', port: 7777 },
    ],
  });
  await ours('add-heartbeat', 'web', UUIDS[1]);
  await ours('heartbeat-mode', 'web', 'global');
  await ours('add-node', 'other', 'localhost');
  await agree(['web'], ['list-cluster', 'list-nodes', 'list-heartbeats']);
  await agree(['other']);
  await theirs('remove-node', 'web', 'one');
  await theirs('remove-heartbeat', 'web', UUIDS[0]);
  await theirs('heartbeat-mode', 'web', 'local');
  await agree(['web', 'other']);
  await ours('remove-heartbeat', 'web', UUIDS[1]);
  await ours('remove-node', 'web', 'seven');
  await agree(['web', 'other']);
  await ours('remove-cluster', 'other');
  await agree(['web']);
  await theirs('remove-cluster', 'web');
  await agree([]);
});

it('refuses with the remedy, and says so in its exit code', { timeout: 120_000 }, async () => {
  await ours('add-cluster', 'web');
  const refused = async (code: number, ...args: string[]): Promise<string> => {
    const run = await cli.run(['o2cb', ...args, '--config-file', file]);
    expect([run.code, run.stdout]).toEqual([code, '']);
    return run.stderr;
  };
  expect(await refused(1, 'add-node', 'wob', 'a', '--ip', '10.0.0.1')).toContain('describes no cluster "wob" (it has web)');
  expect(await refused(2, 'add-node', 'web', 'a', '--ip', '10.0.0.256')).toContain('node "a" has the address "10.0.0.256"');
  expect(await refused(2, 'heartbeat-mode', 'web', 'both')).toContain("'both' is invalid");
  await ours('remove-cluster', 'web');
});

it('takes and refuses the same files', { timeout: 120_000 }, async () => {
  const base = 'cluster:\n\tnode_count = 1\n\tname = web\n\nnode:\n\tip_port = 7777\n\tip_address = 10.0.0.1\n\tnumber = 0\n\tname = one\n\tcluster = web\n';
  const cases: Record<string, string> = {
    'plain': base,
    'comments': `# one\n${base.replace('\tnumber', '# two\n\tnumber')}`,
    'blanks around': base.replace('\tname = one', ' \t name\t=\tone').replace('node:', 'node: \t'),
    'unknown keys and stanzas': `${base}\track = 7 # north\n\nfence:\n\tmethod = none\n`,
    'a value twice': base.replace('number = 0', 'number = 9\n\tnumber = 0'),
    'a continued value': `${base}\tnote = a\\\nb\n`,
    'no newline at the end': base.slice(0, -1),
    'empty lines': `\n\n${base}\n \t\n`,
    'mode in capitals': base.replace('\tname = web', '\theartbeat_mode = GLOBAL\n\tname = web'),
    'a number with a blank behind': base.replace('number = 0', 'number = 0 '),
    'a cluster with a blank behind': base.replace('name = web', 'name = web '),
    'a stanza cut by a blank line': base.replace('\tnumber', '\n\tnumber'),
    'a comment that is indented': base.replace('\tnumber', '\t# x\n\tnumber'),
    'no colon': base.replace('node:', 'node'),
    'a blank before the colon': base.replace('node:', 'node :'),
    'text behind the colon': base.replace('node:', 'node: x'),
    'no equals sign': base.replace('number = 0', 'number 0'),
    'no number': base.replace('\tnumber = 0\n', ''),
    'no address': base.replace('10.0.0.1', ''),
    'an address that is none': base.replace('10.0.0.1', '10.0.0.256'),
    'an address with a leading zero': base.replace('10.0.0.1', '10.0.0.01'),
    'no node_count': base.replace('\tnode_count = 1\n', ''),
    'a mode that is none': base.replace('\tname = web', '\theartbeat_mode = both\n\tname = web'),
    'a node twice': base.replace('node_count = 1', 'node_count = 2') + base.slice(base.indexOf('\nnode:')),
    'a cluster twice': base + base.slice(0, base.indexOf('\nnode:')),
  };
  for (const [name, text] of Object.entries(cases)) {
    fs.writeFileSync(file, text);
    const { status, stdout } = await exec('o2cb', [`--config-file=${file}`, 'list-nodes', '--oneline', 'web']);
    let mine: string | undefined;
    try {
      mine = readClusterConf(file).cluster('web').nodes.map((node) => `node: ${node.number} ${node.name} ${node.address}:${node.port} web\n`).join('');
    } catch (error) {
      expect((error as Error).message, name).toContain(`${file}, line `);
    }
    expect({ name, nodes: mine }).toEqual({ name, nodes: status === 0 ? stdout : undefined });
  }
});
