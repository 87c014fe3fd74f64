import { expect, it } from 'vitest';
import { DEFAULT_SETTINGS, parseSettings } from '../../src/config/settings.js';
import { timeoutsOf } from '../../src/config/timeouts.js';

it('reads what distributions ship and operators write', () => {
  expect(parseSettings('')).toEqual(DEFAULT_SETTINGS);
  const text = `#\n# comment\nO2CB_ENABLED=true\nO2CB_BOOTCLUSTER=web # ours\nexport O2CB_HEARTBEAT_THRESHOLD="61"\nO2CB_IDLE_TIMEOUT_MS='60000'\nOTHER=$(date)\nO2CB_IDLE_TIMEOUT_MS=5''000\n`;
  expect(parseSettings(text)).toEqual({ ...DEFAULT_SETTINGS, enabled: true, bootCluster: 'web', heartbeatThreshold: 61, idleTimeoutMs: 5000 });
  expect(parseSettings('O2CB_BOOTCLUSTER=\nO2CB_STACK=\n')).toMatchObject({ bootCluster: '', stack: 'o2cb' });
});

it.each([
  ['O2CB_HEARTBEAT_THRESHOLD=2', 'f, line 1: O2CB_HEARTBEAT_THRESHOLD is "2"; it must be a number, 3 to 21600'],
  ['\nO2CB_IDLE_TIMEOUT_MS=30s', 'f, line 2: O2CB_IDLE_TIMEOUT_MS is "30s"'],
  ['O2CB_IDLE_TIMEOUT_MS=2000', 'f, line 1: the keepalive delay (2000 ms) must be shorter than the idle timeout (2000 ms)'],
  ['O2CB_STACK=$STACK', 'f, line 1: "$STACK" is more than a plain value'],
  ['O2CB_STACK="a', 'f, line 1: ""a" is more than a plain value'],
])('refuses %j', (text, message) => {
  expect(() => parseSettings(text, 'f')).toThrow(message);
});

it('derives every time from them, in the order in which they must pass', () => {
  expect(timeoutsOf()).toEqual({
    threshold: 31, deadMs: 62_000, writeTimeoutMs: 60_000, negotiateMs: 30_000, approvalMs: 26_000, fenceMs: 45_000, lossMs: 59_500, killMs: 40_000,
    quorumMs: 66_000, idleMs: 30_000, keepaliveMs: 2_000, reconnectMs: 2_000,
  });
  for (const heartbeatThreshold of [3, 4, 7, 31, 61, 21_600]) {
    const t = timeoutsOf({ ...DEFAULT_SETTINGS, heartbeatThreshold });
    const line = [2_000, t.killMs, t.fenceMs, t.lossMs, t.writeTimeoutMs, t.deadMs, t.quorumMs];
    expect(line).toEqual([...line].sort((a, b) => a - b));
    expect(t.negotiateMs).toBeLessThan(t.fenceMs);
  }
});
