/** Crashes at writes of scripts over files that share clusters (support/survive.ts). */
import { crashScripts } from '../support/survive.js';

crashScripts(['clones', 'refcounts', 'sharing']);
