/** Crashes at writes of scripts about extended attributes, ACLs and quota (support/survive.ts). */
import { crashScripts } from '../support/survive.js';

crashScripts(['xattrs', 'acls', 'quota']);
