/** Crashes at writes of scripts that grow, split and shrink extent trees and directory indexes (support/survive.ts). */
import { crashScripts } from '../support/survive.js';

crashScripts(['tree', 'directory']);
