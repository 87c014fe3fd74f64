/** The table of commands, in the order of the help page. */
import type { Define } from '../command.js';
import { cat } from './cat.js';
import { check } from './check.js';
import { cp } from './cp.js';
import { df } from './df.js';
import { disk } from './disk/index.js';
import { exportDisk } from './disk/export.js';
import { dump } from './dump.js';
import { info } from './info.js';
import { ls } from './ls.js';
import { mkdir } from './mkdir.js';
import { mkfs } from './mkfs.js';
import { mount } from './mount.js';
import { mv } from './mv.js';
import { rm } from './rm.js';
import { stat } from './stat.js';
import { umount } from './umount.js';

export const commands: readonly Define[] = [mkfs, mount, umount, info, df, ls, cat, cp, rm, mkdir, mv, stat, check, dump, disk, exportDisk];
