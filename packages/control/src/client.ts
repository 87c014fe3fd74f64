/** Asks a control plane: JSON over HTTPS, its certificate signed by the authority that the client was told of. */
import * as https from 'node:https';
import { ClusterError, IoError } from '@lunfs/device';
import type { ClientContext } from './control.js';

export interface AskOptions {
  readonly body?: unknown;
  readonly idempotencyKey?: string;
}

const TIMEOUT_MS = 60_000;

export class ControlClient {
  constructor(private readonly context: Pick<ClientContext, 'url' | 'ca'> & { readonly token?: string }) {}

  /** The answer's document. Throws ClusterError with the code of the problem; IoError CONTROL_UNREACHABLE. */
  async ask<T>(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, { body, idempotencyKey }: AskOptions = {}): Promise<T> {
    const { status, text } = await this.#send(method, `/api/v1${path}`, body, idempotencyKey);
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch {
      throw new IoError('CONTROL_ANSWER', `${this.context.url} has answered what is no control plane's: status ${status}`, { url: this.context.url }, undefined, 'EPROTO');
    }
    if (status < 300) return document as T;
    const { code = 'INTERNAL', detail = text, remedy = '', cause } = document as { code?: string; detail?: string; remedy?: string; cause?: string };
    throw new ClusterError(code, `${detail}. ${remedy}`.trim(), { status, cause }, undefined, 'EINVAL');
  }

  #send(method: string, path: string, body: unknown, key: string | undefined): Promise<{ status: number; text: string }> {
    const { url, ca, token } = this.context;
    return new Promise((resolve, reject) => {
      const request = https.request(new URL(path, url), {
        method, ca, agent: false, timeout: TIMEOUT_MS,
        headers: {
          accept: 'application/json', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...(key === undefined ? {} : { 'idempotency-key': key }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
      }, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.once('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString() }));
        response.once('error', reject);
      });
      request.once('timeout', () => request.destroy(new Error('it does not answer')));
      request.once('error', (cause) => reject(new IoError('CONTROL_UNREACHABLE', `the control plane at ${url} cannot be asked: ${cause.message}`, { url }, cause)));
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}
