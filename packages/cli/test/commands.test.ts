/** Every command as a user runs it, on volumes of our own mkfs: what it prints, its JSON, its exit codes and refusals. */
import { createHash, randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { lunfsIn } from './support/cli.js';

// Each command is a start of Node, which takes a loaded machine seconds.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const MIB = 2 ** 20;
const cli = lunfsIn('cli');
const inside = (name: string) => path.join(cli.directory, name);
afterAll(() => cli.end());

interface Failure {
  readonly error: { readonly code: string; readonly errno: string; readonly message: string };
}

/** Runs what must fail; its exit code, its one line on stderr, and its code by --json where the command has it. */
async function refused(args: readonly string[], exitCode = 1): Promise<string> {
  const { code, stderr, stdout } = await cli.run(args);
  expect(stderr.trim().split('\n'), `${args.join(' ')}\n${stdout}`).toHaveLength(1);
  expect(stderr).toMatch(/^lunfs( [a-z-]+)*: \S/);
  expect(code).toBe(exitCode);
  return stderr;
}

describe('help and misuse', () => {
  it('has a help page with examples for every command', async () => {
    const main = await cli.must('--help');
    const names = [...main.matchAll(/^ {2}([a-z0-9]+)(?: \[options\])?(?: <.*>)?(?: \[.*\])? {2,}/gm)].map((match) => match[1]);
    expect(names).toEqual(expect.arrayContaining(['mkfs', 'mount', 'umount', 'info', 'df', 'ls', 'cat', 'cp', 'rm', 'mkdir', 'mv', 'stat', 'check', 'dump', 'export', 'grow', 'trim', 'lun', 'o2cb', 'quota', 'guest']));
    for (const name of ['cp', 'dump', 'mkfs']) expect(await cli.must(name, '--help')).toContain('Examples:');
    expect(await cli.must('disk', 'create', '--help')).toContain('lunfs disk create');
    expect(await cli.must('--version')).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('names what is wrong in one line, with exit codes by convention', async () => {
    expect(await refused(['frobnicate'], 2)).toContain("unknown command 'frobnicate'");
    expect(await refused(['ls', '--frob', 'x'], 2)).toContain("unknown option '--frob' (see lunfs ls --help)");
    expect(await refused(['cat'], 2)).toContain('missing required argument');
    expect(await refused(['check'], 16)).toContain('missing required argument');
    expect(await refused(['mount', 'x'], 1)).toContain('missing required argument');
    expect(await refused(['cat', 'no-colon'], 2)).toContain('DEVICE:/path');
    expect(await refused(['disk', 'create', 'x:/y', '12Q'], 2)).toContain('20G');
    expect(await refused(['cp', 'one'], 2)).toContain('where to');
    expect(await refused(['cp', 'a', 'b'], 2)).toContain('neither source nor target');
    expect(await refused(['mount', '-o', 'frob', 'x', 'y'], 1)).toContain('-o frob');
  });
});

describe('devices that are none', () => {
  it('are refused by name', async () => {
    fs.writeFileSync(inside('zeros'), Buffer.alloc(8 * MIB));
    fs.mkdirSync(inside('directory'));
    fs.writeFileSync(inside('tiny'), Buffer.alloc(1000));
    expect(await refused(['ls', 'missing.img'])).toContain('does not exist');
    expect(await refused(['ls', 'directory'])).toContain('is a directory');
    expect(await refused(['ls', 'zeros'])).toContain('holds no OCFS2 volume');
    expect(await refused(['info', 'tiny'])).toContain('holds no OCFS2 volume');
    expect(await refused(['mkfs', 'tiny'])).toMatch(/room for a journal|too small/i);
    expect(await refused(['check', 'zeros'], 8)).toContain('holds no OCFS2 volume');
    expect(await refused(['mount', 'zeros', 'directory'], 1)).toContain('holds no OCFS2 volume');
    const { code, stdout } = await cli.run(['info', '--json', 'zeros']);
    expect(code).toBe(1);
    expect((JSON.parse(stdout) as Failure).error).toMatchObject({ code: 'NOT_OCFS2', errno: 'EINVAL' });
  });
});

describe('mkfs', () => {
  it('asks before it overwrites: without a terminal that is a refusal that names what is there', async () => {
    const image = await cli.volume('asked.img', 64 * MIB, '-L', 'precious');
    const before = fs.readFileSync(inside(image));
    expect(await refused(['mkfs', '-M', 'local', image])).toMatch(/an OCFS2 volume labelled "precious" \(uuid [0-9A-F]{32}\).*--force/);
    expect(fs.readFileSync(inside(image)).equals(before)).toBe(true);
    await cli.must('mkfs', '-q', '-F', '-M', 'local', '-L', 'new', image);
    expect(await cli.json('info', image)).toMatchObject({ label: 'new' });
    fs.writeFileSync(inside('unknown'), Buffer.alloc(64 * MIB, 0x55));
    expect(await refused(['mkfs', 'unknown'])).toContain('data that is not recognised');
  });

  it('shows a plan without writing (-n), and takes the options of mkfs.ocfs2', async () => {
    fs.writeFileSync(inside('dry.img'), '');
    fs.truncateSync(inside('dry.img'), 4 * 2 ** 30);
    const plan = await cli.json<Record<string, unknown>>('mkfs', '-n', '-b', '4K', '-C', '1M', '-N4', '-J', 'size=64M', '-T', 'vmstore', '--cluster-stack', 'o2cb', '--cluster-name', 'prod', '--fs-features=metaecc', 'dry.img');
    expect(plan).toMatchObject({ made: false, blockSize: 4096, clusterSize: MIB, slots: 4, journalSize: 64 * MIB, type: 'vmstore', stack: { name: 'o2cb', cluster: 'prod' } });
    expect(plan.features).toContain('metaecc');
    expect(fs.statSync(inside('dry.img')).blocks).toBe(0);
    expect(await refused(['mkfs', '-T', 'frob', 'dry.img'], 2)).toContain('mail or datafiles or vmstore');
    expect(await refused(['mkfs', '-C', '3K', 'dry.img'])).toContain('3072');
    expect(await refused(['mkfs', '-U', 'xyz', 'dry.img'], 2)).toContain('uuid');
  });
});

describe('a volume', () => {
  let image = '';
  beforeAll(async () => {
    image = await cli.volume('lun.img', 256 * MIB, '-L', 'vms');
    fs.writeFileSync(inside('hello'), 'hello\n');
  });

  it('is described by info, df and dump', async () => {
    expect(await cli.json('info', image)).toMatchObject({
      device: image, label: 'vms', cluster: 'local', maxSlots: 1, space: { bytes: 256 * MIB }, slots: [{ slot: 0, journal: { dirty: false } }],
      features: { incompat: expect.arrayContaining(['local', 'sparse', 'inline-data', 'indexed-dirs']) as unknown },
    });
    expect(await cli.must('info', image)).toMatch(/^Label: +vms$/m);
    expect((await cli.must('df', image)).split('\n')[1]).toMatch(/^lun\.img +vms +256 MiB +/);
    const [usage] = await cli.json<{ bytes: number; usedBytes: number; freeBytes: number }[]>('df', image);
    expect(usage.usedBytes + usage.freeBytes).toBe(usage.bytes);
    expect(await cli.json('dump', image)).toMatchObject({ signature: 'OCFSV2', superBlock: { label: 'vms', maxSlots: 1 } });
    expect(await cli.json('dump', image, 'system')).toEqual(expect.arrayContaining([{ name: 'global_bitmap', inode: expect.any(Number) as unknown }]));
    expect(await cli.json('dump', image, 'slots')).toEqual([{ slot: 0 }]);
    expect(await cli.json('dump', image, 'heartbeat')).toEqual([]);
    expect(await cli.json('dump', image, 'journal', '0')).toMatchObject({ slot: 0, superBlock: { type: 'superV2' } });
    expect(await cli.json('dump', image, 'groups')).toMatchObject({ allocator: 'global_bitmap', groups: expect.arrayContaining([expect.objectContaining({ signature: 'GROUP01' })]) as unknown });
    expect(await cli.json('dump', `${image}:/`, 'directory')).toMatchObject({ entries: [{ name: '.' }, { name: '..' }, { name: 'lost+found' }] });
    expect(await cli.json('dump', `${image}://journal:0000`)).toMatchObject({ signature: 'INODE01', flagNames: expect.stringContaining('journal') as unknown });
    expect(await cli.json('dump', image, 'block', '2')).toMatchObject({ kind: 'superblock' });
    expect(await cli.json('dump', image, 'block', '1')).toMatchObject({ kind: 'data' });
    expect(await cli.must('dump', image)).toMatch(/^signature: OCFSV2$/m);
    expect(await refused(['dump', image, 'frob'], 2)).toContain('superblock');
    expect(await refused(['dump', image, 'block', '99999999'])).toContain('outside the volume');
    expect(await refused(['dump', image, 'block'], 2)).toContain('which block');
  });

  it('reads a volume by a backup superblock and puts it back', async () => {
    const broken = await cli.volume('broken.img', 2048 * MIB, '-b', '4096', '-L', 'broken');
    expect((await cli.run(['cp', '-', `${broken}:/kept`], 'still here\n')).code).toBe(0);
    const file = fs.openSync(path.join(cli.directory, broken), 'r+');
    fs.writeSync(file, Buffer.alloc(4096), 0, 4096, 2 * 4096);
    fs.closeSync(file);
    expect(await refused(['ls', broken])).toContain('holds no OCFS2 volume');
    expect(await refused(['ls', '-B', '2', broken])).toContain('no backup superblock 2');
    expect(await cli.must('ls', '-B', '1', broken)).toContain('kept');
    expect(await cli.must('cat', '--backup-super', '1', `${broken}:/kept`)).toBe('still here\n');
    expect(await cli.json('info', '-B', '1', broken)).toMatchObject({ label: 'broken' });
    await cli.must('check', '-B', '1', broken);
    expect(await refused(['recover-super', broken])).toContain('use --force');
    expect(await refused(['ls', broken])).toContain('holds no OCFS2 volume');
    expect(await cli.json('recover-super', '--force', broken)).toMatchObject({ backup: 1, label: 'broken' });
    expect(await refused(['recover-super', broken])).toContain('intact');
    expect(await cli.must('cat', `${broken}:/kept`)).toBe('still here\n');
    await cli.must('check', broken);
  });

  it('keeps what cp put in: one file, by name, into a directory, from stdin, to stdout', async () => {
    await cli.must('cp', 'hello', `${image}:/`);
    expect(await cli.must('cat', `${image}:/hello`)).toBe('hello\n');
    await cli.must('cp', 'hello', `${image}:/renamed`);
    const bytes = Buffer.from(Array.from({ length: 3_000_001 }, (_, i) => (i * 13) & 0xff));
    expect((await cli.run(['cp', '-', `${image}:/piped`], bytes)).code).toBe(0);
    expect((await cli.run(['cat', `${image}:/piped`])).bytes.equals(bytes)).toBe(true);
    expect((await cli.run(['cp', `${image}:/piped`, '-'])).bytes.equals(bytes)).toBe(true);
    await cli.must('cp', `${image}:/piped`, 'out');
    expect(fs.readFileSync(inside('out')).equals(bytes)).toBe(true);
    // Overwritten in place: shorter than before.
    await cli.must('cp', 'hello', `${image}:/piped`);
    expect(await cli.must('cat', `${image}:/piped`)).toBe('hello\n');
    await cli.must('cp', '-n', 'out', `${image}:/piped`);
    expect(await cli.must('cat', `${image}:/piped`)).toBe('hello\n');
    await cli.must('cp', `${image}:/hello`, `${image}:/copied-inside`);
    expect(await cli.must('cat', `${image}:/copied-inside`, `${image}:/hello`)).toBe('hello\nhello\n');
  });

  it('is changed by mkdir, mv and rm', async () => {
    await cli.must('mkdir', `${image}:/one`);
    await cli.must('mkdir', '-p', `${image}:/one/two/three`, `${image}:/one`);
    await cli.must('mkdir', '-m', '750', `${image}:/private`);
    expect((await cli.json<{ mode: string }[]>('stat', `${image}:/private`))[0].mode).toBe('0750');
    await cli.must('cp', 'hello', `${image}:/one/two/a`);
    await cli.must('mv', `${image}:/one/two/a`, `${image}:/one/b`);
    await cli.must('mv', `${image}:/one/b`, `${image}:/one/two/three`);
    expect(await cli.must('ls', `${image}:/one/two/three`)).toBe('b\n');
    expect(await refused(['mv', `${image}:/one`, `${image}:/one/two`])).toMatch(/itself|below/);
    expect(await refused(['mv', '-n', `${image}:/hello`, `${image}:/renamed`])).toContain('exists');
    expect(await refused(['mkdir', `${image}:/one`])).toContain('exists');
    expect(await refused(['mkdir', `${image}:/x/y`])).toContain(`${image}:/x/y does not exist: there is no "x" on the way to it`);
    expect(await refused(['rm', `${image}:/one`])).toContain('-r');
    expect(await refused(['rm', '-r', `${image}:/`])).toContain('root');
    expect(await refused(['rm', `${image}:/nothing`])).toContain('does not exist');
    await cli.must('rm', '-f', `${image}:/nothing`);
    await cli.must('rm', '-r', `${image}:/one`, `${image}:/private`);
    expect(await cli.must('ls', image)).not.toContain('one');
  });

  it('is listed', async () => {
    const rows = await cli.json<{ name: string; kind: string; size: number }[]>('ls', image);
    expect(rows.map((row) => row.name)).toEqual([...rows.map((row) => row.name)].sort());
    expect(rows.find((row) => row.name === 'hello')).toMatchObject({ kind: 'file', size: 6, path: '/hello', mode: expect.stringMatching(/^0[0-7]{3}$/) as unknown });
    expect(await cli.must('ls', '-l', `${image}:/hello`)).toMatch(/^-rw[-rwx]{7} 1 \d+ \d+ 6 \d{4}-\d\d-\d\d \d\d:\d\d \/hello\n$/);
    expect(await cli.must('ls', '-R', image)).toMatch(/^\/:\n[\s\S]*\n\n\/lost\+found:\n$/);
    expect(await refused(['ls', `${image}:/nothing`])).toContain(`${image}:/nothing does not exist`);
    expect(await refused(['cat', `${image}:/lost+found`])).toContain('is a directory');
    expect(await refused(['cat', `${image}:/hello/x`])).toContain('no directory');
    expect(await refused(['cp', `${image}:/lost+found`, 'somewhere'])).toContain('-r');
    expect(await refused(['cp', '-r', `${image}:/`, `${image}:/lost+found`])).toContain('into itself');
    expect(await refused(['cp', `${image}:/hello`, `${image}:/hello`])).toContain('same file');
    expect(await refused(['cp', 'hello', `${image}:/hello/below`])).toContain('no directory');
    expect(await refused(['cp', '/dev/null', `${image}:/`])).toContain('lunfs cp - TARGET < /dev/null');
    expect(await refused(['ls', `${image}:hello`], 2)).toContain(`write ${image}:/hello`);
    const both = await cli.run(['df', image, 'missing.img']);
    expect(both).toMatchObject({ code: 1, stdout: expect.stringContaining('256 MiB') as unknown, stderr: expect.stringContaining('missing.img does not exist') as unknown });
    expect(await refused(['cp', `${image}:/hello`, 'no/such/place'])).toContain('no/such/place');
  });

  it('is verified: clean, and with exit code 4 when it is damaged', async () => {
    expect(await cli.json('check', image)).toMatchObject({ clean: true, findings: [] });
    expect(await cli.must('check', image)).toContain(': clean; ');
    const damaged = inside('damaged.img');
    fs.copyFileSync(inside(image), damaged);
    const { inode } = (await cli.json<{ inode: number }[]>('stat', `${image}:/hello`))[0];
    const { blockSize } = await cli.json<{ blockSize: number }>('info', image);
    const fd = fs.openSync(damaged, 'r+');
    fs.writeSync(fd, Buffer.from([9, 0]), 0, 2, inode * blockSize + 0x2a); // i_links_count
    fs.closeSync(fd);
    const { code, stdout } = await cli.run(['check', '--json', 'damaged.img']);
    expect(code).toBe(4);
    expect((JSON.parse(stdout) as { findings: { code: string }[] }).findings.map((one) => one.code)).toContain('INODE_COUNT');
  });
});

describe('disks', () => {
  let image = '';
  beforeAll(async () => {
    image = await cli.volume('disks.img', 512 * MIB, '-C', '64K');
  });

  it('are created, shown, resized and removed', async () => {
    const made = await cli.must('disk', 'create', `${image}:/thin.raw`, '64M');
    expect(made).toContain('64 MiB, thin, 0 B allocated');
    expect(made).toContain('"reconnect-delay":300');
    expect(made).toContain('werror=stop,rerror=stop');
    expect(made).toContain(`lunfs disk export ${image}:/thin.raw`);
    expect(made).toMatch(/qemu-img map .*nbd\+unix/);
    expect(await cli.json('disk', 'create', '--thick', '-s', '64M', `${image}:/thick.raw`)).toMatchObject({ size: 64 * MIB, allocated: 64 * MIB, allocation: 'thick-unwritten' });
    await cli.must('disk', 'create', '--zeroed', '-q', `${image}:/zeroed.raw`, '32M');
    expect(await cli.json('disk', 'info', `${image}:/thick.raw`)).toMatchObject({ written: 0, extents: [{ offset: 0, length: 64 * MIB, unwritten: true, shared: false }] });
    expect(await cli.json('disk', 'info', `${image}:/zeroed.raw`)).toMatchObject({ written: 32 * MIB, extents: [{ unwritten: false }] });
    expect(await cli.must('disk', 'resize', `${image}:/thin.raw`, '+64M')).toContain('128 MiB');
    expect(await refused(['disk', 'resize', `${image}:/thin.raw`, '1M'])).toContain('destroys');
    await cli.must('disk', 'resize', '--shrink', `${image}:/thin.raw`, '1M');
    const { disks } = await cli.json<{ disks: { path: string; size: number }[] }>('disk', 'ls', image);
    expect(disks.map((one) => [one.path, one.size])).toEqual([['/thick.raw', 64 * MIB], ['/thin.raw', MIB], ['/zeroed.raw', 32 * MIB]]);
    expect(await refused(['disk', 'create', `${image}:/thin.raw`, '1M'])).toContain(`${image}:/thin.raw is there already; choose another name, or remove it first (lunfs disk rm)`);
    expect(await refused(['disk', 'clone', `${image}:/thick.raw`, '/thin.raw'])).toContain(`${image}:/thin.raw is there already`);
    expect(await refused(['disk', 'create', `${image}:/odd.raw`, '1000'])).toMatch(/:\/odd\.raw: .* multiple of 4096/);
    expect(await refused(['disk', 'create', `${image}:/huge.raw`, '--thick', '20G'])).toMatch(/no free cluster|space/i);
    expect(await refused(['disk', 'rm', `${image}:/missing.raw`])).toContain('missing.raw');
    await cli.must('disk', 'rm', `${image}:/thick.raw`, `${image}:/zeroed.raw`);
    expect(await cli.must('disk', 'ls', image)).not.toContain('thick');
    expect(await cli.json('check', image)).toMatchObject({ clean: true, findings: [] });
  });

  it('are cloned, and copied by sharing', async () => {
    await cli.must('disk', 'create', '--zeroed', '-q', `${image}:/golden.raw`, '1M');
    expect(await cli.json('disk', 'clone', `${image}:/golden.raw`, '/clone.raw')).toMatchObject({ size: MIB, source: '/golden.raw' });
    await cli.must('cp', '-q', '--reflink', `${image}:/clone.raw`, `${image}:/copy.raw`);
    await cli.must('cp', '-q', '--reflink=never', `${image}:/golden.raw`, `${image}:/apart.raw`);
    expect(await cli.json('disk', 'info', `${image}:/copy.raw`)).toMatchObject({ size: MIB, shared: MIB });
    expect(await cli.json('disk', 'info', `${image}:/apart.raw`)).toMatchObject({ size: MIB, shared: 0 });
    expect(await refused(['cp', '--reflink', process.execPath, `${image}:/`])).toContain('not in one volume');
    await cli.must('disk', 'rm', ...['golden', 'clone', 'copy', 'apart'].map((name) => `${image}:/${name}.raw`));
    expect(await cli.json('check', image)).toMatchObject({ clean: true, findings: [] });
  }, 120_000);

  it('are served by export until unexport; the device is refused meanwhile, by name', async () => {
    const exported = await cli.json<{ uri: string; socket: string }>('export', `${image}:/thin.raw`);
    try {
      expect(fs.statSync(exported.socket).mode & 0o777).toBe(0o600);
      expect(await refused(['cp', 'hello', `${image}:/`])).toMatch(/in use by a volume process of this host: it serves 1 export/);
      expect(await refused(['cat', `${image}:/thin.raw`])).toContain('in use');
      expect(await refused(['check', image], 8)).toContain('in use');
      expect(await refused(['mkfs', '-F', image])).toMatch(/in use|held/);
      expect(await cli.json('disk', 'create', `${image}:/beside.raw`, '1M')).toMatchObject({ size: MIB });
      expect(await refused(['disk', 'rm', `${image}:/thin.raw`])).toContain('exported');
      const second = await cli.json<{ uri: string }>('disk', 'export', '-r', '--tcp', '127.0.0.1:0', `${image}:/beside.raw`);
      expect(second.uri).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/beside\.raw$/);
      await cli.must('disk', 'unexport', `${image}:/beside.raw`);
      expect(await refused(['disk', 'unexport', `${image}:/beside.raw`])).toContain('no export');
    } finally {
      await cli.must('umount', image);
    }
    expect(await cli.json('check', image)).toMatchObject({ clean: true, findings: [] });
    expect(await refused(['umount', image], 32)).toContain('no process of this host');
  });
});

it('copies data without a difference in either direction, holes as holes', async () => {
  const image = await cli.volume('holes.img', 256 * MIB);
  const file = inside('holes');
  const fd = fs.openSync(file, 'w');
  for (const at of [0, 5_000_000, 31 * MIB + 17]) fs.writeSync(fd, Buffer.alloc(70_000, at & 0xff || 1), 0, 70_000, at);
  fs.ftruncateSync(fd, 128 * MIB);
  fs.closeSync(fd);
  await cli.must('cp', 'holes', `${image}:/holes`);
  const { allocated, extents } = (await cli.json<{ allocated: number; extents: unknown[] }[]>('stat', '-x', `${image}:/holes`))[0];
  expect(allocated).toBeLessThan(MIB);
  expect(extents.length).toBeGreaterThanOrEqual(3);
  await cli.must('cp', `${image}:/holes`, 'holes-out');
  const hash = (name: string) => createHash('sha256').update(fs.readFileSync(inside(name))).digest('hex');
  expect(hash('holes-out')).toBe(hash('holes'));
  expect(fs.statSync(inside('holes-out')).blocks * 512).toBeLessThan(MIB);
});

describe('grow', () => {
  it('enlarges a volume to its device\'s size, and says before which blocks it would change', { timeout: 300_000 }, async () => {
    await cli.volume('small.img', 100 * MIB);
    fs.truncateSync(inside('small.img'), 300 * MIB);
    const plan = await cli.json<{ from: number; to: number; fromBytes: number; toBytes: number; groupsAdded: number; blocks: { blkno: number; count: number; what: string }[] }>('grow', '--dry-run', 'small.img');
    expect(plan).toMatchObject({ fromBytes: 100 * MIB, toBytes: 300 * MIB });
    expect(plan.blocks).toContainEqual({ blkno: 2, count: 1, what: 'superblock' });
    expect(await cli.must('grow', '-n', 'small.img')).toMatch(/^small\.img: from 100 MiB to 300 MiB: \d+ clusters, \d+ groups\n\n +Block +Count +What\n +2 +1 +superblock\n/);
    expect((await cli.json<{ bytes: number }[]>('df', 'small.img'))[0].bytes).toBe(100 * MIB);
    expect(await cli.must('grow', '--size', '200M', 'small.img')).toContain('from 100 MiB to 200 MiB');
    expect(await refused(['grow', '--size', '150M', 'small.img'])).toContain('cannot be made smaller');
    expect(await refused(['grow', '--size', '400M', 'small.img'])).toContain('enlarge the LUN first');
    expect(await cli.json('grow', 'small.img')).toMatchObject({ fromBytes: 200 * MIB, to: plan.to });
    expect(await cli.must('grow', 'small.img')).toBe('small.img: 300 MiB, as large as it can be\n');
    expect((await cli.json<{ bytes: number }[]>('df', 'small.img'))[0].bytes).toBe(300 * MIB);
    expect(await cli.must('check', 'small.img')).toContain('clean');
  });
});

describe('trim', () => {
  it('gives the space of deleted files back to a sparse image, and takes none of what is there', { timeout: 300_000 }, async () => {
    const image = await cli.volume('trim.img', 256 * MIB);
    const allocated = (): number => fs.statSync(inside('trim.img')).blocks * 512;
    fs.writeFileSync(inside('content'), randomBytes(20 * MIB));
    await cli.must('cp', 'content', `${image}:/stays`);
    await cli.must('cp', 'content', `${image}:/goes`);
    await cli.must('rm', `${image}:/goes`);
    const before = allocated();
    expect(before).toBeGreaterThan(40 * MIB);
    expect(await cli.json('trim', '--length', '1M', 'trim.img')).toMatchObject({ bytes: 0, runs: 0 });
    const { bytes } = await cli.json<{ bytes: number }>('trim', 'trim.img');
    expect(bytes).toBeGreaterThan(150 * MIB);
    expect(before - allocated()).toBeGreaterThan(19 * MIB);
    expect(await cli.must('trim', 'trim.img')).toMatch(/^trim\.img: \S+ MiB \(\d+ bytes\) trimmed in \d+ pieces?\n$/);
    await cli.must('cp', `${image}:/stays`, 'stays');
    expect(fs.readFileSync(inside('stays')).equals(fs.readFileSync(inside('content')))).toBe(true);
    expect(await cli.must('check', 'trim.img')).toContain('clean');
  });
});

describe('quota', () => {
  it('is reported and set on a volume that nobody has mounted', { timeout: 180_000 }, async () => {
    await cli.volume('quota.img', 60 * MIB, '--fs-features=usrquota');
    await cli.must('quota', 'set', 'quota.img', '-u', 'root', '--block-soft', '1G', '--inode-hard', '1000000');
    expect(await cli.must('quota', 'grace', 'quota.img', '--block', '3d', '--sync', '5000')).toBe('users: 72 h 00 min for space, 168 h 00 min for inodes, told every 5000 ms\n');
    expect(await cli.must('quota', 'report', 'quota.img')).toBe('Quota of users on quota.img: grace 72 h 00 min for space, 168 h 00 min for inodes\n\n'
      + 'User      Space   Soft  Hard  Grace  Inodes  Soft     Hard  Grace\nroot  --    0 B  1 GiB     -              1     -  1000000\n');
    expect(await cli.json('quota', 'report', '-n', 'quota.img')).toMatchObject([{ type: 'user', spaceGrace: 259_200, syncMs: 5000, records: [{ id: 0, name: 'root', inodes: 1, inodeHard: 1_000_000 }] }]);
    expect(await refused(['quota', 'report', '-g', 'quota.img'])).toContain('keeps no group quota');
    expect(await refused(['quota', 'set', 'quota.img', '-u', '5'], 2)).toContain('name a limit');
    expect(await refused(['quota', 'set', 'quota.img', '--block-hard', '5'], 2)).toContain('either a user');
    expect(await refused(['quota', 'set', 'quota.img', '-u', 'no-such-user', '--block-hard', '5'], 2)).toContain('knows no user');
    expect(await refused(['quota', 'grace', 'quota.img', '--block', 'soon'], 2)).toContain('such as 7d');
    await cli.volume('plain.img', 60 * MIB);
    expect(await refused(['quota', 'report', 'plain.img'])).toContain('keeps no quota');
    expect(await cli.must('check', 'quota.img')).toContain('clean');
  });
});

describe('lun', () => {
  it('lists what this host has, and refuses what is no LUN', async () => {
    const { luns } = await cli.json<{ luns: { device: string; size: number; paths: unknown[]; content: { device: string } }[] }>('lun', 'list');
    const disks = fs.readdirSync('/sys/block').filter((name) => /^(sd|vd|nvme)/.test(name) && Number(fs.readFileSync(`/sys/block/${name}/size`, 'utf8')) > 0);
    if (disks.length === 0) expect(luns).toEqual([]);
    else expect(luns.length).toBeGreaterThan(0);
    for (const { size, content } of luns) expect([size > 0, content.device.startsWith('/dev/')]).toEqual([true, true]);
    fs.writeFileSync(inside('no-lun'), Buffer.alloc(MIB));
    expect(await refused(['lun', 'show', 'no-lun'])).toContain('is no block device');
    expect(await refused(['lun', 'show', 'missing'])).toContain('lunfs lun list');
    expect(await refused(['lun', 'check', '--settings', 'no-lun', 'no-lun'])).toContain('is no block device');
    expect(await refused(['lun', 'frob'], 2)).toContain("unknown command 'frob'");
  });
});
