/** What is wrong with a LUN on this host, by stable codes; each text says what, of what, and what to do. */
export interface Finding {
  /**
   * DEVICE_HELD (a path of a map), MAP_MISSING, PATH_OUTSIDE_MAP, PATH_SIZE, NO_PATH, PATH_DOWN, MAP_SUSPENDED, NO_MULTIPATHD, NAME_UNSTABLE, and of times
   * QUEUES_FOREVER, QUEUES_TOO_LONG, FAILS_LATE, COMMAND_TOO_LONG.
   */
  readonly code: string;
  /** `error`: a volume of a cluster must not be on it like this. `warning`: it works, but not as well as it should. */
  readonly severity: 'error' | 'warning';
  readonly text: string;
}

export function error(code: string, text: string): Finding {
  return { code, severity: 'error', text };
}

export function warning(code: string, text: string): Finding {
  return { code, severity: 'warning', text };
}
