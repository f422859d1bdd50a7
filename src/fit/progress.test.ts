// The progress line in a terminal and elsewhere, and the numbers in it.
import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { duration, Pace, progressLine, streamReporter } from "./progress.js";

const state = {
  step: 120,
  totalSteps: 400,
  epoch: 2,
  epochs: 10,
  loss: 8.12345,
  imagesPerSecond: 312.4,
  dataWait: 0.034,
  secondsLeft: 754,
};

/** A stream that keeps what it is given, and may call itself a terminal. */
function paper(terminal?: { columns: number }) {
  const written: string[] = [];
  const stream = new Writable({
    write(chunk, _, done) {
      written.push(String(chunk));
      done();
    },
  });
  return { written, stream: Object.assign(stream, terminal && { isTTY: true, ...terminal }) as NodeJS.WritableStream };
}

describe("progressLine", () => {
  it("has epoch, step, loss, speed, wait and time left", () => {
    expect(progressLine(state)).toBe("epoch 3/10  step 120/400  loss 8.1235  312 images/s  data wait 3 %  12 min 34 s left");
  });
  it.each([
    [0.4, "0 s"],
    [59.6, "1 min 00 s"],
    [3599, "59 min 59 s"],
    [3725, "1 h 02 min"],
    [90_000, "25 h 00 min"],
    [-3, "0 s"],
    [Number.NaN, "?"],
    [Number.POSITIVE_INFINITY, "?"],
  ])("%d seconds are %s", (seconds, text) => expect(duration(seconds)).toBe(text));
});

describe("streamReporter", () => {
  it("writes plain lines: the first step, every so many, the last", () => {
    const { written, stream } = paper();
    const reporter = streamReporter(stream, { every: 4 });
    for (let step = 1; step <= 10; step++) reporter.progress({ ...state, step, totalSteps: 10 });
    reporter.line("done");
    expect(written.map((line) => /step (\d+)/.exec(line)?.[1] ?? line)).toEqual(["1", "4", "8", "10", "done\n"]);
    expect(written.every((line) => line.endsWith("\n") && !line.includes("\x1b"))).toBe(true);
  });

  it("rewrites one line in a terminal, cut to its width, and puts lines that stay in its place", () => {
    const { written, stream } = paper({ columns: 40 });
    const reporter = streamReporter(stream);
    for (let step = 1; step <= 10; step++) reporter.progress({ ...state, step, totalSteps: 10 });
    reporter.line("k-NN");
    reporter.line("done");
    const clear = "\r\x1b[2K";
    // At most ten times a second, but always the last.
    expect(written.length).toBeLessThan(10);
    expect(written[0]).toBe(`${clear}${progressLine({ ...state, step: 1, totalSteps: 10 }).slice(0, 39)}`);
    expect(written.slice(-3)).toEqual([
      `${clear}${progressLine({ ...state, step: 10, totalSteps: 10 }).slice(0, 39)}`,
      `${clear}k-NN\n`,
      "done\n",
    ]);
  });
});

describe("Pace", () => {
  it("measures over a window of steps", () => {
    const pace = new Pace(2);
    expect([pace.imagesPerSecond, pace.dataWait, pace.stepMs]).toEqual([0, 0, 0]);
    pace.add({ ms: 60_000, waitMs: 59_000, images: 1 });
    pace.add({ ms: 100, waitMs: 10, images: 32 });
    pace.add({ ms: 300, waitMs: 30, images: 32 });
    expect(pace.imagesPerSecond).toBeCloseTo(160, 9);
    expect(pace.dataWait).toBeCloseTo(0.1, 9);
    expect(pace.stepMs).toBe(200);
  });
});
