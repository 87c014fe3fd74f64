/** All that we put into a volume of the matrix, and all that we change in it after Linux did. */
import type { Cell } from '../../scripts/lib/matrix-cells.mjs';
import type { EngineTree } from '../support/engine-tree.js';
import { changeAttributes, fillAttributes } from './attributes.js';
import { changeClones, fillClones } from './clones.js';
import { changeFiles, fillFiles } from './files.js';
import { fillUp } from './full.js';
import { changeOwners, fillOwners } from './owners.js';
import { Site } from './site.js';

/** `step`: told what comes next. */
export async function populate(tree: EngineTree, cell: Cell, seed: number, step: (what: string) => void): Promise<void> {
  const site = new Site(tree, cell, seed);
  await tree.mkdir('ours');
  step('clones');
  await fillClones(site, 'ours/clones');
  step('attributes');
  await fillAttributes(site, 'ours/attributes');
  step('owners');
  await fillOwners(site, 'ours/owners');
  step('files');
  await fillFiles(site, 'ours');
  step('filling up');
  await fillUp(site);
}

export async function change(tree: EngineTree, cell: Cell, seed: number): Promise<void> {
  const site = new Site(tree, cell, seed);
  await changeClones(site);
  await changeAttributes(site);
  await changeOwners(site);
  await changeFiles(site);
}
