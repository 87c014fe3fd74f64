import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { changeClusterConf, readClusterConf, readSettings } from '../../src/config/files.js';

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-config-'));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));
const file = path.join(directory, 'etc/ocfs2/cluster.conf');

it('writes a file as a whole, into a directory it makes, through a link, with its mode', () => {
  expect(() => readClusterConf(file)).toThrow(/does not exist: this host is in no cluster/);
  changeClusterConf(file, (conf) => conf.addCluster('web'));
  expect(readClusterConf(file).clusters.map(({ name }) => name)).toEqual(['web']);
  expect(fs.statSync(file).mode & 0o7777).toBe(0o644);
  fs.chmodSync(file, 0o600);
  const link = path.join(directory, 'link');
  fs.symlinkSync(file, link);
  changeClusterConf(link, (conf) => conf.addNode('web', { name: 'a', address: '10.0.0.1' }));
  expect(fs.lstatSync(link).isSymbolicLink()).toBe(true);
  expect(fs.statSync(file).mode & 0o7777).toBe(0o600);
  expect(readClusterConf(file).cluster('web').nodes).toHaveLength(1);
  expect(fs.readdirSync(path.dirname(file))).toEqual(['cluster.conf']);
});

it('leaves the file alone when the change fails', () => {
  const before = fs.readFileSync(file, 'utf8');
  expect(() => changeClusterConf(file, (conf) => conf.addNode('web', { name: 'a', address: '10.0.0.2' }))).toThrow(/exists already/);
  fs.appendFileSync(file, 'broken');
  expect(() => changeClusterConf(file, (conf) => conf.addCluster('b'))).toThrow(/line \d+/);
  expect(fs.readFileSync(file, 'utf8')).toBe(`${before}broken`);
});

it('takes the first file of settings that exists', () => {
  const second = path.join(directory, 'o2cb');
  fs.writeFileSync(second, 'O2CB_HEARTBEAT_THRESHOLD=7\n');
  expect(readSettings([path.join(directory, 'none'), second]).heartbeatThreshold).toBe(7);
  expect(readSettings([path.join(directory, 'none')]).heartbeatThreshold).toBe(31);
});
