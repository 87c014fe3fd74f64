export { MAX_PAYLOAD } from './frame.js';
export { O2net, type O2netOptions } from './o2net.js';
export type { NetNotice, PeerStatistics } from './peer.js';
export type { Socket, SocketEvents, Transport } from './transport.js';
export { listen, tcpTransport } from './tcp.js';
