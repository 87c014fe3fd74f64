/** Crashes at every write of scripts about files' data and space (support/survive.ts). */
import { crashScripts } from '../support/survive.js';

crashScripts(['files', 'space'], { small: true });
