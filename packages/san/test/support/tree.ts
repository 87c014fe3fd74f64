/** A host laid out in a directory: sysfs, procfs and /dev with the attributes that a real one has (copied from one with two virtio-scsi paths and multipathd), and programs that answer. */
import fs from 'node:fs';
import path from 'node:path';
import type { Ran, SanHost } from '../../src/host.js';

export interface SdSpec {
  readonly hctl?: string;
  readonly number?: string;
  readonly sectors?: number;
  readonly wwid?: string;
  readonly state?: string;
  readonly vendor?: string | Buffer;
  readonly timeout?: number;
  /** Directories between the controller and the host: how it is attached. */
  readonly via?: string;
  readonly serial?: string;
  readonly partitions?: readonly { readonly start: number; readonly sectors: number; readonly number: string }[];
}

export class Tree {
  readonly host: SanHost;
  /** Answers by command line; what is not here is not installed. */
  readonly answers = new Map<string, Partial<Ran>>();
  /** What the host does when a command line is run, beside answering. */
  readonly effects = new Map<string, () => void>();
  readonly ran: string[] = [];

  constructor(readonly root: string) {
    this.host = {
      sys: path.join(root, 'sys'), proc: path.join(root, 'proc'), dev: path.join(root, 'dev'),
      run: (program, args) => {
        const line = [program, ...args].join(' ');
        this.ran.push(line);
        this.effects.get(line)?.();
        const answer = this.answers.get(line);
        return Promise.resolve({ missing: answer === undefined, status: answer === undefined ? -1 : 0, stdout: '', stderr: '', ...answer });
      },
    };
    for (const directory of ['sys/block', 'proc/self', 'dev/disk/by-id']) fs.mkdirSync(path.join(root, directory), { recursive: true });
  }

  write(file: string, content: string | Buffer): void {
    const at = path.join(this.root, file);
    fs.mkdirSync(path.dirname(at), { recursive: true });
    fs.writeFileSync(at, typeof content === 'string' ? `${content}\n` : content);
  }

  /** A whole disk, or a map, has another size from now on. */
  resize(name: string, sectors: number): void {
    fs.writeFileSync(path.join(fs.realpathSync(path.join(this.root, 'sys/block', name)), 'size'), `${sectors}\n`);
  }

  /** The kernel takes a rescan of a path, and does this. */
  onRescan(name: string, effect: () => void): void {
    const line = ['sh', '-c', 'printf %s "$2" > "$1"', 'rescan', `${this.host.sys}/block/${name}/device/rescan`, '1'].join(' ');
    this.answers.set(line, {});
    this.effects.set(line, effect);
  }

  link(file: string, target: string): void {
    const at = path.join(this.root, file);
    fs.mkdirSync(path.dirname(at), { recursive: true });
    fs.symlinkSync(target, at);
  }

  /** A SCSI disk. */
  sd(name: string, { hctl = '0:0:0:0', number = '8:0', sectors = 524288, wwid, state = 'running', vendor = 'LUNFS   ', timeout = 30, via = 'virtio1/host0', serial, partitions = [] }: SdSpec = {}): void {
    const device = `sys/devices/pci0000:00/${via}/target0/${hctl}`;
    const block = `${device}/block/${name}`;
    const all: Record<string, string | Buffer> = {
      [`${device}/vendor`]: vendor, [`${device}/model`]: 'VIRTUAL LUN     ', [`${device}/rev`]: '2.5+', [`${device}/state`]: state, [`${device}/timeout`]: String(timeout),
      [`${block}/dev`]: number, [`${block}/size`]: String(sectors), [`${block}/ro`]: '0', [`${block}/queue/logical_block_size`]: '512',
    };
    if (wwid !== undefined) all[`${device}/wwid`] = wwid;
    if (serial !== undefined) all[`${device}/vpd_pg80`] = Buffer.concat([Buffer.from([0, 0x80, 0, serial.length]), Buffer.from(serial)]);
    for (const [i, part] of partitions.entries()) Object.assign(all, { [`${block}/${name}${i + 1}/partition`]: String(i + 1), [`${block}/${name}${i + 1}/start`]: String(part.start), [`${block}/${name}${i + 1}/size`]: String(part.sectors), [`${block}/${name}${i + 1}/dev`]: part.number });
    for (const [file, content] of Object.entries(all)) this.write(file, content);
    this.link(`${block}/device`, '../..');
    this.link(`sys/block/${name}`, path.relative('sys/block', block));
  }

  /** A device-mapper device on others. */
  dm(name: string, { mapName, uuid, sectors = 524288, number = '254:0', slaves = [] as readonly string[], suspended = false }: { mapName: string; uuid: string; sectors?: number; number?: string; slaves?: readonly string[]; suspended?: boolean }): void {
    const block = `sys/devices/virtual/block/${name}`;
    for (const [file, content] of Object.entries({ dev: number, size: String(sectors), ro: '0', 'dm/name': mapName, 'dm/uuid': uuid, 'dm/suspended': suspended ? '1' : '0', 'queue/logical_block_size': '512' })) this.write(`${block}/${file}`, content);
    this.link(`sys/block/${name}`, path.relative('sys/block', block));
    for (const slave of slaves) {
      const below = fs.realpathSync(path.join(this.root, 'sys/block', slave));
      this.link(`${block}/slaves/${slave}`, below);
      fs.mkdirSync(path.join(below, 'holders'), { recursive: true });
      fs.symlinkSync(path.join(this.root, block), path.join(below, 'holders', name));
    }
  }

  mounts(...lines: readonly (readonly [number: string, where: string, type: string])[]): void {
    this.write('proc/self/mountinfo', lines.map(([number, where, type], i) => `${i + 20} 1 ${number} / ${where} rw,relatime - ${type} source rw`).join('\n'));
  }

  /** multipathd runs and knows these maps. */
  multipathd(...maps: readonly { name: string; wwid: string; dm: string; queueing?: string; features?: string; paths: readonly { dev: string; state?: string; checked?: string }[] }[]): void {
    const document = {
      major_version: 0, minor_version: 1,
      maps: maps.map(({ name, wwid, dm, queueing = '-', features = '0', paths }) => ({
        name, uuid: wwid, sysfs: dm, queueing, features, hwhandler: '0',
        path_groups: paths.map(({ dev, state = 'active', checked = 'ready' }) => ({ selector: 'service-time 0', dm_st: 'active', paths: [{ dev, dm_st: state, chk_st: checked, checker: 'tur', pri: 1 }] })),
      })),
    };
    this.answers.set('multipathd show maps json', { stdout: JSON.stringify(document) });
    this.answers.set('multipathd show config local', { stdout: 'defaults {\n\tverbosity 2\n\tpolling_interval 5\n}\n' });
  }
}
