export { NbdServer, type NbdServerOptions, type TlsServerOptions } from './server/server.js';
export type { ExportOptions } from './server/exports.js';
export { NbdClient, canMultiConn, type NbdClientOptions, type NbdExportInfo, type NbdExtent } from './client/client.js';
export { NbdConnectionError, NbdRequestError } from './errors.js';
