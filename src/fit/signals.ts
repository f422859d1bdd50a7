// SIGINT and SIGTERM ask a run to stop after the current step; a second one ends the process at once.

export interface StopRequest {
  /** True once the run has been asked to stop. */
  requested(): boolean;
  /** Gives the signals back. */
  release(): void;
}

export function listenForStop(onRequest: (signal: string) => void): StopRequest {
  let requested = false;
  const handler = (signal: NodeJS.Signals) => {
    if (requested) process.exit(130);
    requested = true;
    onRequest(signal);
  };
  const signals: NodeJS.Signals[] = ["SIGINT", "SIGTERM"];
  for (const signal of signals) process.on(signal, handler);
  return {
    requested: () => requested,
    release: () => {
      for (const signal of signals) process.off(signal, handler);
    },
  };
}
