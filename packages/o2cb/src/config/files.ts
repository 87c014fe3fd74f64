/** The configuration's files: read, and cluster.conf replaced as a whole, so that a reader or a crash never finds half of it. */
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError, UsageError } from '@lunfs/device';
import { ClusterConf, DEFAULT_CLUSTER_CONF } from './cluster-conf.js';
import { DEFAULT_SETTINGS, type O2cbSettings, SETTINGS_FILES, parseSettings } from './settings.js';

/** Throws CLUSTER_CONF_MISSING, CLUSTER_CONF_READ, BAD_CLUSTER_CONF. */
export function readClusterConf(file = DEFAULT_CLUSTER_CONF): ClusterConf {
  const text = readText(file);
  if (text !== undefined) return ClusterConf.parse(text, file);
  throw new UsageError(
    'CLUSTER_CONF_MISSING', 'ENOENT',
    `${file} does not exist: this host is in no cluster. Copy it from another node, or begin one: lunfs o2cb add-cluster NAME`,
    { file },
  );
}

/**
 * Reads a cluster.conf (one that does not exist is empty), changes it and puts the new one in its place, durable when this returns.
 * Owner and mode are kept; a new file can be read by everybody, and its directory is made.
 */
export function changeClusterConf(file: string, change: (conf: ClusterConf) => ClusterConf): ClusterConf {
  const conf = change(ClusterConf.parse(readText(file) ?? '', file));
  try {
    replaceFile(file, conf.text);
  } catch (cause) {
    throw new IoError('CLUSTER_CONF_WRITE', `${file} cannot be written: ${(cause as Error).message}`, { file }, cause);
  }
  return conf;
}

/** The settings of this host: those of the first of `files` that exists, else the defaults. */
export function readSettings(files: readonly string[] = SETTINGS_FILES): O2cbSettings {
  for (const file of files) {
    const text = readText(file);
    if (text !== undefined) return parseSettings(text, file);
  }
  return DEFAULT_SETTINGS;
}

/** Undefined: there is no such file. */
function readText(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new IoError('CLUSTER_CONF_READ', `${file} cannot be read: ${(cause as Error).message}`, { file }, cause);
  }
}

function replaceFile(file: string, text: string): void {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  // A link stays a link: what it leads to is replaced.
  const old = fs.statSync(file, { throwIfNoEntry: false });
  const target = old ? fs.realpathSync(file) : file;
  const temporary = `${target}.new-${process.pid}`;
  const fd = fs.openSync(temporary, 'wx', 0o644);
  try {
    try {
      fs.writeFileSync(fd, text);
      if (old) {
        fs.fchmodSync(fd, old.mode & 0o7777);
        if (process.geteuid?.() === 0) fs.fchownSync(fd, old.uid, old.gid);
      } else {
        fs.fchmodSync(fd, 0o644);
      }
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(temporary, target);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
  const directory = fs.openSync(path.dirname(target), 'r');
  try {
    fs.fsyncSync(directory);
  } finally {
    fs.closeSync(directory);
  }
}
