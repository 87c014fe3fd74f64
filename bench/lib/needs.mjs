// What a benchmark needs of the machine. A row whose opponent is not there is left out by name, with what to install.
import { debianPackages, findProgram } from '../../scripts/lib/oracles.mjs';

/** Packages of programs that no test needs. */
const others = { gcc: 'gcc', 'passthrough_ll.c': 'libfuse3-dev' };

/** Why these programs cannot be used: which are missing and how to get them; undefined when all are there. */
export function missing(...programs) {
  const absent = programs.filter((program) => findProgram(program) === undefined);
  if (absent.length === 0) return undefined;
  const packages = absent.map((program) => others[program] ?? Object.keys(debianPackages).find((name) => debianPackages[name].includes(program)) ?? program);
  return `no ${absent.join(', ')} on this machine (apt-get install ${[...new Set(packages)].join(' ')})`;
}

/** True if all are there; else says what is left out and why. */
export function have(what, ...programs) {
  const why = missing(...programs);
  if (why !== undefined) console.log(`${what}: left out: ${why}`);
  return why === undefined;
}
