import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { NbdClient, NbdServer } from '@lunfs/nbd';
import { MovingBackend, seeded, temporaryDirectory } from '../support/backends.js';

let directory: string;
let server: NbdServer;
let backend: MovingBackend;
const pem = (name: string): Buffer => fs.readFileSync(path.join(directory, name));

beforeAll(() => {
  directory = temporaryDirectory();
  const openssl = (...args: string[]): void => { execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' }); };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...key, '-subj', '/CN=authority', '-keyout', 'ca.key', '-out', 'ca.pem');
  openssl('req', '-x509', ...key, '-subj', '/CN=stranger', '-keyout', 'stranger.key', '-out', 'stranger.pem');
  for (const name of ['localhost', 'client']) {
    fs.writeFileSync(path.join(directory, 'extensions'), `subjectAltName=DNS:${name}\n`);
    openssl('req', ...key, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'extensions', '-out', `${name}.pem`);
  }
});
afterEach(async () => {
  await server.close();
  await backend.close();
});
afterAll(() => fs.rmSync(directory, { recursive: true }));

async function start(clientCertificates: 'none' | 'required'): Promise<number> {
  server = new NbdServer({ tls: { cert: pem('localhost.pem'), key: pem('localhost.key'), ca: pem('ca.pem'), clientCertificates } });
  backend = new MovingBackend(path.join(directory, 'lun'), 8 << 20, seeded(1));
  server.addExport({ name: 'disk', backend });
  return server.listenTcp(0);
}

it('serves the same over TLS, and nothing without it', async () => {
  const port = await start('none');
  const disk = await NbdClient.connect({ port, tls: { ca: pem('ca.pem'), servername: 'localhost' } });
  await disk.go('disk');
  const bytes = Buffer.alloc(4 << 20, 'over tls');
  await Promise.all([disk.write(0, bytes), disk.write(4 << 20, bytes)]);
  expect((await disk.read(0, 4 << 20)).equals(bytes)).toBe(true);
  expect(await disk.blockStatus(0, 8 << 20)).toEqual([{ length: 8 << 20, hole: false, zero: false }]);
  await disk.close();
  const plain = await NbdClient.connect({ port });
  await expect(plain.list()).rejects.toMatchObject({ code: 'NBD_REFUSED' });
  await expect(plain.go('disk')).rejects.toMatchObject({ code: 'NBD_REFUSED' });
  plain.destroy();
  await expect(NbdClient.connect({ port, tls: { ca: pem('stranger.pem'), servername: 'localhost' } })).rejects.toMatchObject({ code: 'NBD_REFUSED' });
});

it('asks clients for certificates of its authority', async () => {
  const port = await start('required');
  const known = await NbdClient.connect({ port, tls: { ca: pem('ca.pem'), servername: 'localhost', cert: pem('client.pem'), key: pem('client.key') } });
  expect((await known.go('disk')).size).toBe(8 << 20);
  await known.close();
  const attempt = async (tls: object): Promise<void> => {
    const stranger = await NbdClient.connect({ port, tls: { ca: pem('ca.pem'), servername: 'localhost', ...tls } });
    await stranger.go('disk');
  };
  await expect(attempt({})).rejects.toMatchObject({ kind: 'io' });
  await expect(attempt({ cert: pem('stranger.pem'), key: pem('stranger.key') })).rejects.toMatchObject({ kind: 'io' });
});
