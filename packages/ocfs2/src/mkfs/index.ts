/** Making volumes. */
export { type FeatureLevel, type FeatureSet, featureNames } from './features.js';
export { formatVolume, type MkfsEnvironment, type MkfsProgress } from './format.js';
export type { VolumeSeed } from './layout.js';
export { type MkfsOptions, planVolume, type VolumePlan } from './plan.js';
export { probeVolume, type VolumeSignature } from './probe.js';
