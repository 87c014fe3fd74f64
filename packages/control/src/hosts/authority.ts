/**
 * The control plane's own certificate authority: it signs the certificate of its API. Who a certificate is for stands in a URI among its names: `lunfs://control`.
 * Certificate and key are in the database: all control planes of one database have the same.
 */
import 'reflect-metadata'; // @peculiar/x509 wants it first
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { nowMs } from '../clock.js';
import type { OpenedDatabase } from '../db/open.js';
import { newSerialNumber } from '../random.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 24 * 3600_000;
const CA_DAYS = 7300;
/** Of a host, and of the control plane itself, which makes a new one at each start. */
const LEAF_DAYS = 3650;
/** Clocks of hosts differ. */
const BEFORE_MS = DAY_MS;
export const CONTROL_URI = 'lunfs://control';

export interface Names {
  readonly commonName: string;
  readonly uri: string;
  readonly dns?: readonly string[];
  readonly ip?: readonly string[];
}

export interface Identity {
  readonly certificate: string;
  readonly key: string;
}

type Pair = webcrypto.CryptoKeyPair;

export class Authority {
  private constructor(readonly certificate: string, private readonly issuer: x509.X509Certificate, private readonly key: webcrypto.CryptoKey) {}

  /** The one in the database; made if there is none. */
  static async of(database: OpenedDatabase): Promise<Authority> {
    const fresh = await selfSigned();
    const { certificate, key } = await database.change(async (trx) => {
      const rows = await trx.selectFrom('settings').selectAll().where('name', 'in', ['ca_certificate', 'ca_key']).execute();
      const value = (name: string): string | undefined => rows.find((row) => row.name === name)?.value;
      if (rows.length === 2) return { certificate: value('ca_certificate')!, key: value('ca_key')! };
      await trx.insertInto('settings').values([{ name: 'ca_certificate', value: fresh.certificate }, { name: 'ca_key', value: fresh.key }]).execute();
      return fresh;
    });
    const der = Buffer.from(key.replace(/-----[^-]+-----|\s/g, ''), 'base64');
    return new Authority(certificate, new x509.X509Certificate(certificate), await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']));
  }

  /** A new key and its certificate. */
  async identity(names: Names): Promise<Identity> {
    const keys = await newKeys();
    return { certificate: await this.#sign(names, keys.publicKey), key: await keyPem(keys) };
  }

  async #sign({ commonName, uri, dns = [], ip = [] }: Names, publicKey: webcrypto.CryptoKey): Promise<string> {
    const names: x509.JsonGeneralName[] = [{ type: 'url', value: uri }, ...dns.map((value) => ({ type: 'dns' as const, value })), ...ip.map((value) => ({ type: 'ip' as const, value }))];
    const signed = await x509.X509CertificateGenerator.create({
      serialNumber: newSerialNumber(), subject: `CN=${commonName}`, issuer: this.issuer.subject, notBefore: new Date(nowMs() - BEFORE_MS), notAfter: new Date(nowMs() + LEAF_DAYS * DAY_MS),
      signingAlgorithm: ALGORITHM, publicKey, signingKey: this.key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]), new x509.SubjectAlternativeNameExtension(names),
      ],
    });
    return signed.toString('pem');
  }
}

async function newKeys(): Promise<Pair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function keyPem({ privateKey }: Pair): Promise<string> {
  const text = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', privateKey)).toString('base64');
  return `-----BEGIN PRIVATE KEY-----\n${text.match(/.{1,64}/g)!.join('\n')}\n-----END PRIVATE KEY-----\n`;
}

async function selfSigned(): Promise<Identity> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerialNumber(), name: 'CN=lunfs authority', notBefore: new Date(nowMs() - BEFORE_MS), notAfter: new Date(nowMs() + CA_DAYS * DAY_MS), signingAlgorithm: ALGORITHM, keys,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true)],
  });
  return { certificate: certificate.toString('pem'), key: await keyPem(keys) };
}
