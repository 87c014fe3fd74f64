/**
 * A host of a SAN under QEMU: LUNs on two virtio-scsi controllers each (one serial, one WWN), Debian's udev and multipathd, and this checkout's lunfs. Each path is a node of
 * QEMU's own, so the array can tell one path of a new size before the other.
 */
import net from 'node:net';
import path from 'node:path';
import { Machine } from '../../scripts/lib/machine/machine.mjs';
import { lunfsOn, makeLunfsDisk } from './lunfs-disk.js';
import type { Result } from './machines.js';
import { type Cleanup, sparseFile, tempDir } from './temp.js';

export interface LunSpec {
  readonly name: string;
  readonly bytes: number;
  /** Of which multipathd makes no map. */
  readonly blacklisted?: boolean;
  /** An image that is there already. */
  readonly file?: string;
}

export class SanHost {
  private constructor(readonly machine: Machine, readonly files: ReadonlyMap<string, string>, private readonly socket: string, private readonly words: string) {}

  /** Paths appear controller by controller: of two LUNs sda and sdb by the first, sdc and sdd by the second. `multipath` is added to the section `defaults` of multipath.conf. */
  static async start(cleanup: Cleanup, luns: readonly LunSpec[], multipath = ''): Promise<SanHost> {
    const directory = tempDir(cleanup, 'san');
    const files = new Map(luns.map(({ name, bytes, file }) => [name, file ?? sparseFile(path.join(directory, name), bytes)]));
    const socket = path.join(directory, 'qmp');
    const program = await makeLunfsDisk(path.join(directory, 'lunfs'));
    const devices = luns.flatMap(({ name }, i) => [0, 1].flatMap((controller) => [
      '-blockdev', JSON.stringify({ driver: 'raw', 'node-name': `${name}-${controller}`, cache: { direct: true }, file: { driver: 'file', filename: files.get(name), locking: 'off', cache: { direct: true } } }),
      '-device', `scsi-hd,bus=path${controller}.0,lun=${i},drive=${name}-${controller},serial=${name},wwn=${wwnOf(i)},vendor=LUNFS,product=VIRTUAL LUN,share-rw=on`,
    ]));
    const machine = await Machine.start({
      disks: [{ file: program, readOnly: true, direct: false }], root: 'san', hostname: 'san', memoryMiB: 768, bootTimeoutMs: 300_000,
      qemuArgs: ['-device', 'virtio-scsi-pci,id=path0', '-device', 'virtio-scsi-pci,id=path1', ...devices, '-qmp', `unix:${socket},server=on,wait=off`],
    });
    cleanup.add(() => machine.kill());
    const host = new SanHost(machine, files, socket, await lunfsOn(machine, '/dev/vda'));
    const blacklist = luns.flatMap(({ blacklisted }, i) => (blacklisted ? [`  wwid "3${wwnOf(i).slice(2)}"`] : []));
    await host.must('while read -r m; do insmod "/modules/$m" || exit 1; done < /modules/order; mount -t tmpfs tmpfs /etc/multipath', 300_000);
    await host.configure(multipath, blacklist);
    await host.must('/lib/systemd/systemd-udevd --daemon 2>/dev/null && udevadm trigger --action=add && udevadm settle --timeout=200', 300_000);
    const maps = luns.filter(({ blacklisted }) => !blacklisted).length;
    await host.must(`multipathd 2>/dev/null; for i in $(seq 600); do [ "$(multipathd show maps raw format %N 2>/dev/null | grep -c '^2')" = ${maps} ] && exit; sleep 0.2; done; multipath -ll >&2; exit 1`, 300_000);
    return host;
  }

  /** Writes multipath.conf. */
  async configure(defaults: string, blacklist: readonly string[] = []): Promise<void> {
    const text = `defaults {\n  user_friendly_names yes\n  find_multipaths no\n  polling_interval 5\n  ${defaults}\n}\nblacklist {\n  devnode "^vd"\n${blacklist.join('\n')}\n}\n`;
    await this.machine.must('cat > /etc/multipath/multipath.conf', { input: text });
  }

  must(command: string, timeoutMs = 900_000): Promise<string> {
    return this.machine.must(command, { timeoutMs });
  }

  /** Runs lunfs there, whatever its status. */
  lunfs(line: string, timeoutMs = 900_000): Promise<Result> {
    return this.machine.run(`${this.words} ${line}`, { timeoutMs });
  }

  /** Standard output of lunfs, which must succeed, as JSON. */
  async json<T>(line: string): Promise<T> {
    return JSON.parse(await this.must(`${this.words} ${line} --json`)) as T;
  }

  /** The array makes a LUN larger, as one path (0 or 1) sees it. */
  async resize(lun: string, controller: 0 | 1, bytes: number): Promise<void> {
    await this.#qmp('block_resize', { 'node-name': `${lun}-${controller}`, size: bytes });
  }

  #qmp(execute: string, args: object): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.socket);
      let text = '';
      socket.on('error', reject);
      socket.on('close', () => reject(new Error(`QMP ended: ${text}`)));
      socket.on('data', (part) => {
        text += String(part);
        // A greeting, the answer to the capabilities, the answer; events may come between.
        const answers = text.split('\n').filter((line) => /^\{"(?:return|error)"/.test(line));
        if (answers.length < 2) return;
        if (answers[1].startsWith('{"return"')) resolve();
        else reject(new Error(answers[1]));
        socket.destroy();
      });
      socket.write(`{"execute":"qmp_capabilities"}\n${JSON.stringify({ execute, arguments: args })}\n`);
    });
  }
}

/** WWN of the LUN of that number: NAA 5. */
export function wwnOf(lun: number): string {
  return `0x5001405abcdef00${lun}`;
}
