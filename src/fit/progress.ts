// The progress line: epoch, step, loss, images a second, the share of time spent waiting for data, time left. One line that is rewritten
// in a terminal, plain lines elsewhere.

export interface ProgressState {
  step: number;
  totalSteps: number;
  epoch: number;
  epochs: number;
  loss: number;
  imagesPerSecond: number;
  /** Share of the time spent waiting for data, 0 to 1. */
  dataWait: number;
  secondsLeft: number;
}

/** `1 h 02 min`, `3 min 20 s`, `45 s` */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const s = Math.max(0, Math.round(seconds));
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  if (s >= 60) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  return `${s} s`;
}

export function progressLine(state: ProgressState): string {
  const { step, totalSteps, epoch, epochs, loss, imagesPerSecond, dataWait, secondsLeft } = state;
  return [
    `epoch ${epoch + 1}/${epochs}`,
    `step ${step}/${totalSteps}`,
    `loss ${loss.toFixed(4)}`,
    `${imagesPerSecond.toFixed(0)} images/s`,
    `data wait ${(100 * dataWait).toFixed(0)} %`,
    `${duration(secondsLeft)} left`,
  ].join("  ");
}

/** Where a run tells how it goes. */
export interface Reporter {
  /** Called after every step; shows it as often as fits. */
  progress(state: ProgressState): void;
  /** A line that stays. */
  line(text: string): void;
}

/** Writes to a stream: rewrites one line in a terminal, writes every `every` steps elsewhere. */
export function streamReporter(
  stream: NodeJS.WriteStream | NodeJS.WritableStream,
  { every = 50 }: { every?: number } = {},
): Reporter {
  const terminal = "isTTY" in stream && stream.isTTY === true;
  let open = false;
  let shown = 0;
  return {
    progress(state) {
      const last = state.step === state.totalSteps;
      if (terminal) {
        const now = performance.now();
        if (now - shown < 100 && !last) return;
        shown = now;
        const width = (stream as NodeJS.WriteStream).columns ?? 80;
        stream.write(`\r\x1b[2K${progressLine(state).slice(0, width - 1)}`);
        open = true;
      } else if (state.step % every === 0 || state.step === 1 || last) stream.write(`${progressLine(state)}\n`);
    },
    line(text) {
      stream.write(`${open ? "\r\x1b[2K" : ""}${text}\n`);
      open = false;
    },
  };
}

/** Says nothing. */
export const silentReporter: Reporter = { progress() {}, line() {} };

/** Images a second and the share of waiting, over a window of recent steps: the first ones, slow from warming up, soon leave it. */
export class Pace {
  readonly #steps: { ms: number; waitMs: number; images: number }[] = [];

  constructor(readonly window = 50) {}

  add(step: { ms: number; waitMs: number; images: number }): void {
    this.#steps.push(step);
    if (this.#steps.length > this.window) this.#steps.shift();
  }

  get imagesPerSecond(): number {
    return (1000 * this.#sum("images")) / Math.max(1e-9, this.#sum("ms"));
  }
  get dataWait(): number {
    return this.#sum("waitMs") / Math.max(1e-9, this.#sum("ms"));
  }
  /** Mean milliseconds of a step. */
  get stepMs(): number {
    return this.#sum("ms") / Math.max(1, this.#steps.length);
  }

  #sum(key: "ms" | "waitMs" | "images"): number {
    return this.#steps.reduce((total, step) => total + step[key], 0);
  }
}
