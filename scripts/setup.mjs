// Set-up of a checkout: npm packages, build, and what the oracles need. npm start, npm test and npm run bench call it;
// it is quick when all is there. What can't be had is named with what to do about it, and the rest goes on.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { fetchKernel } from './lib/kernel.mjs';
import { missingPackages } from './lib/oracles.mjs';
import { bin, root, run, seconds } from './lib/run.mjs';

/** True unless node_modules holds exactly what package-lock.json asks for (this platform's share of the optional ones). */
function packagesAreStale() {
  const installedFile = path.join(root, 'node_modules/.package-lock.json');
  if (!fs.existsSync(installedFile)) return true;
  const wanted = JSON.parse(fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(fs.readFileSync(installedFile, 'utf8')).packages;
  const known = Object.entries(installed).every(([name, facts]) => wanted[name] && wanted[name].version === facts.version);
  const complete = Object.entries(wanted).every(([name, facts]) => !name.startsWith('node_modules/') || facts.optional || installed[name]);
  return !known || !complete;
}

async function npmPackages() {
  if (!packagesAreStale()) return;
  console.log('setup: installing npm packages (npm ci)');
  const { status, output, ms } = await run('npm', ['ci', '--no-audit', '--no-fund']);
  if (status !== 0) throw new Error(`npm ci failed; nothing works without the packages:\n${output}`);
  console.log(`setup: npm packages installed in ${seconds(ms)}`);
}

async function build() {
  const { status, output, ms } = await run(bin('tsc'), ['-b']);
  if (status !== 0) throw new Error(`the build (tsc -b) failed:\n${output}`);
  if (ms > 1000) console.log(`setup: built in ${seconds(ms)}`);
}

/** Installs missing Debian packages when it may; else says which. */
async function debianPackages() {
  const missing = missingPackages();
  if (missing.length === 0) return;
  const command = `apt-get install --no-install-recommends ${missing.join(' ')}`;
  const advice = `suites that need them are skipped. To have them: ${process.getuid?.() === 0 ? '' : 'sudo '}${command}`;
  if ((await run('sh', ['-c', 'command -v apt-get'])).status !== 0) {
    console.log(`setup: not a Debian machine; install what holds ${missing.join(', ')} yourself, else the suites that need them are skipped`);
    return;
  }
  if (process.getuid?.() !== 0) {
    console.log(`setup: not root, so these Debian packages stay missing: ${missing.join(' ')}; ${advice}`);
    return;
  }
  console.log(`setup: ${command}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const options = ['-y', '-q', '-o', 'DPkg::Lock::Timeout=120'];
  await run('apt-get', ['update', '-q'], { env });
  const { status, output, ms } = await run('apt-get', ['install', ...options, '--no-install-recommends', ...missing], { env });
  if (status === 0) console.log(`setup: Debian packages installed in ${seconds(ms)}`);
  else console.log(`setup: apt-get failed; ${advice}\n${output.trim().split('\n').slice(-5).join('\n')}`);
}

/** Has Debian's kernel in the cache; package lists that are missing or out of date are renewed once when root. */
async function kernel() {
  const started = performance.now();
  let fetched = false;
  /** @param {string} line */
  const say = (line) => {
    fetched = true;
    console.log(`setup: ${line}`);
  };
  let problem = await fetchKernel(say);
  if (problem && process.getuid?.() === 0 && (await run('apt-get', ['update', '-q'])).status === 0) problem = await fetchKernel(say);
  if (problem) console.log(`setup: no kernel for the virtual machines, suites that boot one are skipped: ${problem}`);
  else if (fetched) console.log(`setup: kernel unpacked in ${seconds(performance.now() - started)}`);
}

/** Brings the checkout to where everything that can run on this machine runs. Throws only when nothing could. */
export async function setup() {
  await npmPackages();
  await build();
  await debianPackages();
  await kernel();
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await setup();
  } catch (error) {
    console.error(`setup: ${error.message}`);
    process.exitCode = 1;
  }
}
