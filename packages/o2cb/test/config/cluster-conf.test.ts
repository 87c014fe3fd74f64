/** cluster.conf: what is not changed is written back as it was read, what is wrong is told with its line. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ClusterConf, localNode } from '../../src/config/cluster-conf.js';

const FILE = `# who is who
cluster:
	node_count = 2
	name = web
	fence_method = panic

# the first
node:
	ip_port = 7777
	ip_address = 192.168.7.10
	number = 0
# racks
	rack = 7 # north
	name = one
	cluster = web

node:
 	number=7
	name =two
	ip_address= 192.168.7.11
	ip_port = 7777
	note = first\\
second
	cluster = web
 \t
heartbeat:\t
	region = 0123456789ABCDEF0123456789ABCDEF
	cluster = web

cluster:
	name = other
	node_count = 0
	heartbeat_mode = GLOBAL
`;

const read = (text: string) => ClusterConf.parse(text, 'c.conf');
const refusal = (text: string): string => {
  try {
    read(text);
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
};

describe('reading', () => {
  it('finds clusters, nodes and regions', () => {
    expect(read(FILE).clusters).toEqual([
      {
        name: 'web', heartbeatMode: 'local', regions: ['0123456789ABCDEF0123456789ABCDEF'],
        nodes: [{ number: 0, name: 'one', address: '192.168.7.10', port: 7777 }, { number: 7, name: 'two', address: '192.168.7.11', port: 7777 }],
      },
      { name: 'other', heartbeatMode: 'global', nodes: [], regions: [] },
    ]);
    expect(read('').clusters).toEqual([]);
    // The last line needs no newline; an attribute given twice counts once, the last time.
    expect(read('cluster:\n\tname = a\n\tname = b\n\tnode_count = 0').clusters[0].name).toBe('b');
  });

  it('knows which node this host is', () => {
    const web = read(FILE).cluster('web');
    expect(localNode(web, 'two').number).toBe(7);
    expect(localNode(web, 'ONE.example.org').number).toBe(0);
    expect(() => localNode(web, 'onetwo', 'c.conf')).toThrow('c.conf: cluster "web" has no node named "onetwo" (its nodes are one, two). Add this host on every node: lunfs o2cb add-node web onetwo --ip ADDRESS');
  });

  it('tells what is wrong, where, and what to do', () => {
    const second = (change: (text: string) => string) => refusal(FILE.replace(/(?<=\nnode:\n \t)[\s\S]*?(?= \t\n)/, change));
    expect(second((text) => text.replace('number=7', 'number=0'))).toBe('c.conf, line 17: node number 0 is there twice. Give node "two" another, on every host');
    expect(second((text) => text.replace('.11', '.10'))).toBe('c.conf, line 17: address 192.168.7.10 (node "one") is there twice. Give node "two" another, on every host');
    expect(second((text) => text.replace('=two', '=one'))).toContain('line 17: node name "one" is there twice');
    expect(second((text) => text.replace('two', 'x'.repeat(65)))).toContain('line 19: "xxx');
    expect(second((text) => text.replace('=7', '=255'))).toContain('line 18: node "two" has the number 255; it can be 0 to 254');
    expect(second((text) => text.replace('=7', '=7 x'))).toContain('line 18: number is "7 x", which is no number');
    expect(second((text) => text.replace('192', '392'))).toContain('line 20: node "two" has the address "392.168.7.11"');
    expect(second((text) => text.replace('7777', '65535'))).toContain('line 21: node "two" has the port 65535');
    expect(second((text) => text.replace(' \tnumber=7\n', '').replace('number=7\n', ''))).toContain('line 17: the stanza "node:" has no number');
    expect(refusal(FILE.replace('node_count = 2', 'node_count = 3'))).toBe(
      'c.conf, line 3: node_count is 3, but the file has 2 nodes of cluster "web". Write node_count = 2, or add what is missing',
    );
    expect(refusal(FILE.replace('name = other', 'name = web'))).toContain('line 30: cluster "web" is described in line 2 already');
    expect(refusal(FILE.replace('name = other', `name = ${'x'.repeat(17)}`))).toContain(`line 31: the name "${'x'.repeat(17)}" is longer than 16 bytes`);
    expect(refusal(FILE.replace('GLOBAL', 'both'))).toContain('line 33: heartbeat_mode is "both"');
    expect(refusal(FILE.replace('0123456789ABCDEF0123', '0123'))).toContain('line 27: "0123456789ABCDEF" is no region');
  });

  it.each([
    ['an attribute outside', 'cluster:\n\n\tname = a\n', 'line 3: an attribute must stand in a stanza'],
    ['a blank before the colon', 'cluster :\n', 'line 1: a stanza begins'],
    ['text behind the colon', 'cluster: # x\n', 'line 1: a stanza begins'],
    ['no equals sign', 'cluster:\n\tname a\n', 'line 2: an attribute is written'],
    ['a comment that is indented', 'cluster:\n\t# a\n', 'line 2: an attribute is written'],
    ['a sign in a name', 'cluster:\n\tna-me = a\n', 'line 2: an attribute is written'],
    ['a comment of C', '# a /* b\n', 'line 1: the tools take "/*"'],
    ['no text', 'a\0b', 'line 1: it holds a NUL byte'],
  ])('refuses %s', (_, text, message) => {
    expect(refusal(text)).toContain(message);
  });

  it('never fails otherwise than by a refusal', () => {
    const piece = fc.constantFrom('cluster:', 'node:', '\t', ' ', '\n', 'name', '=', ' = ', 'a', '0', '#', '\\', '\\\n', ':', '\tname = a\n', '\tnode_count = 0\n', 'heartbeat:\n', '\tcluster = a\n');
    fc.assert(fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const text = pieces.join('');
      const message = refusal(text);
      if (message === 'accepted') expect(read(text).text).toBe(text === '' || text.endsWith('\n') ? text : `${text}\n`);
      else expect(message).toMatch(/^c\.conf, line \d+: /);
    }), { numRuns: 2000 });
  });
});

describe('changing', () => {
  it('leaves everything else as it was', () => {
    const conf = read(FILE);
    expect(conf.text).toBe(FILE);
    expect(conf.setHeartbeatMode('other', 'local').text).toBe(FILE.replace('GLOBAL', 'local'));
    expect(conf.setHeartbeatMode('web', 'global').text).toBe(FILE.replace('cluster:\n', 'cluster:\n\theartbeat_mode = global\n'));
    expect(conf.addNode('web', { name: 'three', address: '10.0.0.1' }).text).toBe(
      `${FILE.replace('node_count = 2', 'node_count = 3')}\nnode:\n\tip_port = 7777\n\tip_address = 10.0.0.1\n\tnumber = 1\n\tname = three\n\tcluster = web\n\n`,
    );
    expect(conf.removeNode('web', 'two').text).toBe(FILE.replace('node_count = 2', 'node_count = 1').replace(/node:\n \tnumber[\s\S]*? \t\n/, ''));
    expect(conf.removeNode('web', 'one').text).toBe(FILE.replace('node_count = 2', 'node_count = 1').replace(/node:\n\tip_port[\s\S]*?\n\n/, ''));
    expect(conf.removeHeartbeat('web', '01234567-89ab-cdef-0123-456789abcdef').text).toBe(FILE.replace(/heartbeat:[\s\S]*?\n\n/, ''));
    expect(conf.removeCluster('web').text).toBe('# who is who\n# the first\ncluster:\n\tname = other\n\tnode_count = 0\n\theartbeat_mode = GLOBAL\n');
    expect(conf.addHeartbeat('other', 'A'.repeat(32)).cluster('other').regions).toEqual(['A'.repeat(32)]);
  });

  it('begins a file', () => {
    const conf = read('').addCluster('web').addNode('web', { name: 'a', address: '10.0.0.1', number: 3, port: 7000 }).addNode('web', { name: 'b', address: '10.0.0.2' });
    expect(conf.text).toBe(
      'cluster:\n\tnode_count = 2\n\theartbeat_mode = local\n\tname = web\n\n' +
        'node:\n\tip_port = 7000\n\tip_address = 10.0.0.1\n\tnumber = 3\n\tname = a\n\tcluster = web\n\n' +
        'node:\n\tip_port = 7777\n\tip_address = 10.0.0.2\n\tnumber = 0\n\tname = b\n\tcluster = web\n\n',
    );
    expect(read(conf.text).clusters).toEqual(conf.clusters);
  });

  it('refuses what would not be a cluster', () => {
    const conf = read(FILE);
    const code = (change: () => unknown): string => {
      try {
        change();
      } catch (error) {
        return (error as { code: string }).code;
      }
      return 'accepted';
    };
    expect(code(() => conf.addCluster('web'))).toBe('CLUSTER_EXISTS');
    expect(code(() => conf.addCluster('web-1'))).toBe('BAD_CLUSTER_NAME');
    expect(code(() => conf.addCluster('x'.repeat(17)))).toBe('BAD_CLUSTER_NAME');
    expect(code(() => conf.removeCluster('wab'))).toBe('CLUSTER_UNKNOWN');
    expect(code(() => conf.addNode('web', { name: 'one', address: '1.1.1.1' }))).toBe('NODE_EXISTS');
    expect(code(() => conf.addNode('web', { name: 'three', address: '192.168.7.10' }))).toBe('NODE_EXISTS');
    expect(code(() => conf.addNode('web', { name: 'three', address: '1.1.1.1', number: 7 }))).toBe('NODE_EXISTS');
    expect(code(() => conf.addNode('web', { name: 'three', address: '1.1.1.01' }))).toBe('BAD_NODE_ADDRESS');
    expect(code(() => conf.addNode('web', { name: 'three', address: '1.1.1.1', number: 255 }))).toBe('BAD_NODE_NUMBER');
    expect(code(() => conf.addNode('web', { name: 'three', address: '1.1.1.1', port: 0 }))).toBe('BAD_NODE_PORT');
    expect(code(() => conf.addNode('web', { name: 'a b', address: '1.1.1.1' }))).toBe('BAD_NODE_NAME');
    expect(code(() => conf.removeNode('web', 'three'))).toBe('NODE_UNKNOWN');
    expect(code(() => conf.addHeartbeat('web', '0123456789abcdef0123456789abcdef'))).toBe('REGION_EXISTS');
    expect(code(() => conf.addHeartbeat('web', 'sda'))).toBe('BAD_REGION');
    expect(code(() => conf.removeHeartbeat('web', 'B'.repeat(32)))).toBe('REGION_UNKNOWN');
  });

  it('has room for 255 nodes and 32 regions', () => {
    let conf = read('').addCluster('full');
    for (let i = 0; i < 255; i++) conf = conf.addNode('full', { name: `n${i}`, address: `10.0.0.${i}` });
    expect(() => conf.addNode('full', { name: 'more', address: '10.0.1.0' })).toThrow(/255 nodes already/);
    for (let i = 0; i < 32; i++) conf = conf.addHeartbeat('full', (i + 1).toString(16).padStart(32, '0'));
    expect(() => conf.addHeartbeat('full', 'F'.repeat(32))).toThrow(/32 heartbeat regions already/);
  });
});
