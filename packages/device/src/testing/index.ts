export { type Change, applyChange, applySurvivors } from './changes.js';
export { RecordingDevice, isChange, type FlushEntry, type LogEntry, type MarkEntry } from './recording-device.js';
export { crashImage, prefixImages, reorderedImages, type CrashImage, type PointFilter } from './crash-images.js';
export { FaultyDevice, type FaultRule, type FaultyOperation, type FaultyOptions, type Sleeper } from './faulty-device.js';
