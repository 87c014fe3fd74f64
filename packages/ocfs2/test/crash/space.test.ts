/** Crashes at writes of scripts about allocators: suballocator groups, windows, truncate logs, blocks used again (support/survive.ts). */
import { crashScripts } from '../support/survive.js';

crashScripts(['allocators', 'reuse']);
