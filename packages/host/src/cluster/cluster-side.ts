/**
 * A volume process's side of its cluster: the link to lunfsd, the fence, and what the mount asks of them. The order of a start is
 * what keeps two incarnations apart: the device is taken exclusively first, and only then lunfsd begins to beat for it. Whoever beats
 * knows that no process of an earlier incarnation can write any more.
 */
import * as net from 'node:net';
import { type Fence, InternalError } from '@lunfs/device';
import { type WireError, fromWire } from '../control-protocol.js';
import { FenceClient } from './fence-client.js';
import { type Frame, KIND } from './frames.js';
import { type Joining, type OpenedVolume, inspectVolume } from './joining.js';
import { Link, jsonOf } from './link.js';
import { RemoteMember } from './remote-member.js';

/** The process's descriptor of its link. */
export const LINK_FD = 4;

/** How a process of a cluster finds lunfsd's fence. */
export interface ClusterSpec {
  readonly socket: string;
  readonly token: string;
  readonly stillMs: number;
}

/** A member, joined. */
export interface Joined {
  readonly volume: OpenedVolume;
  readonly joining: Joining;
  readonly member: RemoteMember;
}

export class ClusterSide {
  readonly #fence: FenceClient;
  readonly #link: Link;
  #member: RemoteMember | undefined;
  #joining: { readonly resolve: (joining: Joining) => void; readonly reject: (error: Error) => void } | undefined;
  #admitting: { readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined;

  constructor(spec: ClusterSpec) {
    this.#fence = new FenceClient(spec);
    this.#link = new Link(new net.Socket({ fd: LINK_FD, readable: true, writable: true }), (frame) => this.#received(frame));
  }

  get fence(): Fence {
    return this.#fence.fence;
  }

  /** The device is this process's alone: become a member by lunfsd. Rejects with lunfsd's reasons. Resolves when I/O is allowed. */
  async join(device: string, logicalBlockSize?: number): Promise<Joined> {
    const volume = await inspectVolume(device, logicalBlockSize);
    const joining = await new Promise<Joining>((resolve, reject) => {
      this.#joining = { resolve, reject };
      this.#link.sendJson(KIND.opened, volume);
    });
    await this.fence.opened();
    return { volume, joining, member: this.#member! };
  }

  /** The domain is joined. Rejects, by lunfsd's reasons, when a member of it is not on our disk: then nothing may be read or written. */
  async admit(members: readonly number[]): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#admitting = { resolve, reject };
      this.#link.sendJson(KIND.joined, members);
    });
  }

  /** What the next incarnation is to serve as well, should this one not end by itself. */
  exporting(specs: readonly unknown[]): void {
    this.#link.sendJson(KIND.exports, specs);
  }

  /** Nothing of this process is left in the cluster: lunfsd may say goodbye for it. Call it last. */
  async left(): Promise<void> {
    this.#link.send(KIND.left);
    await this.#link.drained();
    await this.#fence.close();
  }

  #received(frame: Frame): void {
    switch (frame.kind) {
      case KIND.beating: {
        const joining = jsonOf<Joining>(frame);
        this.#fence.start();
        this.#member = new RemoteMember(joining, this.#link);
        this.#joining?.resolve(joining);
        return;
      }
      case KIND.refused:
        (this.#admitting ?? this.#joining)?.reject(fromWire(jsonOf<WireError>(frame)));
        return;
      case KIND.admitted:
        this.#admitting?.resolve();
        return;
      default:
        if (this.#member?.receive(frame) !== true) throw new InternalError('LINK_FRAME', `lunfsd sent a frame of kind ${frame.kind} that means nothing now`, { kind: frame.kind });
    }
  }
}
