/** Run before every test file of the vitest project `hostile` (locks.ts): what it mounts without a Dlm of its own gets a hostile one. */
import { Volume } from '../../src/volume/index.js';
import { randomFrom } from '../../../../test/support/temp.js';
import { hostileDlm } from './locks.js';

const mount = Volume.mount.bind(Volume);
let mounts = 0;
Volume.mount = (device, options = {}) => mount(device, { ...options, dlm: options.dlm ?? hostileDlm(randomFrom(++mounts)) });
