// Schedules against the arrays of DINO's and MoCo v3's programs (tests/reference/optim_schedules.py), and properties that hold for all.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readGolden, testRegenerates } from "../../tests/reference/golden.js";
import { type RunLength, ScheduleError, type ScheduleSpec, schedule } from "./index.js";

const golden = readGolden<{ run: RunLength } & Record<string, number[]>>("optim_schedules");
const { run } = golden;

const specs: Record<string, ScheduleSpec> = {
  "DINO learning rate": { kind: "cosine", from: 5e-4, to: 1e-6, warmup: { epochs: 3, endpoint: true } },
  "DINO weight decay": { kind: "cosine", from: 0.04, to: 0.4 },
  "DINO momentum": { kind: "cosine", from: 0.996, to: 1 },
  "DINO teacher temperature": { kind: "constant", value: 0.07, per: "epoch", warmup: { epochs: 4, from: 0.04, endpoint: true } },
  "MoCo v3 learning rate": { kind: "cosine", from: 2.4e-3, to: 0, warmup: { epochs: 4 } },
  "MoCo v3 momentum": { kind: "cosine", from: 0.99, to: 1 },
  "MoCo v3 linear probe": { kind: "cosine", from: 12, to: 0, per: "epoch" },
};

describe("as the papers' programs", () => {
  test("every schedule of the reference program is checked", () => {
    expect(["run", ...Object.keys(specs)]).toEqual(Object.keys(golden));
  });
  for (const [name, spec] of Object.entries(specs)) {
    test(name, () => {
      const at = schedule(spec, run);
      expect(golden[name]).toHaveLength(run.steps);
      for (const [step, expected] of golden[name]!.entries()) {
        expect(Math.abs(at(step) - expected), `step ${step}`).toBeLessThanOrEqual(1e-14 * (1 + Math.abs(expected)));
      }
    });
  }
  testRegenerates("optim_schedules");
});

const length = fc.record({ steps: fc.integer({ min: 1, max: 500 }), stepsPerEpoch: fc.integer({ min: 1, max: 50 }) });
const value = fc.double({ min: -10, max: 10, noNaN: true });
const kind = fc.constantFrom("linear" as const, "cosine" as const);
const per = fc.constantFrom("step" as const, "epoch" as const);

describe("properties", () => {
  test("stays between its ends, goes one way, and ends exactly", () => {
    fc.assert(
      fc.property(length, kind, per, value, value, (of, how, when, from, to) => {
        const at = schedule({ kind: how, from, to, per: when }, of);
        const values = Array.from({ length: of.steps + 3 }, (_, step) => at(step));
        expect(values[0]).toBe(from);
        expect(values.slice(Math.ceil(of.steps / of.stepsPerEpoch) * of.stepsPerEpoch)).toEqual(
          values.slice(Math.ceil(of.steps / of.stepsPerEpoch) * of.stepsPerEpoch).map(() => to),
        );
        expect(at(1e9)).toBe(to);
        const direction = Math.sign(to - from);
        for (const [i, each] of values.entries()) {
          expect(each).toBeGreaterThanOrEqual(Math.min(from, to));
          expect(each).toBeLessThanOrEqual(Math.max(from, to));
          // Cosines are rounded; a step back of that size is none.
          if (i > 0) expect(direction * (each - values[i - 1]!)).toBeGreaterThanOrEqual(-1e-13);
        }
      }),
    );
  });
  test("the warm-up rises from its start and meets the schedule", () => {
    fc.assert(
      fc.property(length, kind, fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean(), (of, how, share, endpoint) => {
        const steps = Math.floor(share * of.steps);
        const at = schedule({ kind: how, from: 1, to: 0.25, warmup: { steps, from: 0.125, endpoint } }, of);
        if (steps > 0) expect(at(0)).toBe(0.125);
        if (steps < of.steps) expect(at(steps)).toBe(1);
        if (steps > 1) expect(at(steps - 1) === 1).toBe(endpoint);
        for (let step = 1; step < steps; step++) expect(at(step)).toBeGreaterThan(at(step - 1));
        expect(at(of.steps)).toBe(0.25);
      }),
    );
  });
  test("per epoch: the same value from an epoch's first step to its last", () => {
    fc.assert(
      fc.property(length, kind, fc.nat(600), (of, how, step) => {
        const at = schedule({ kind: how, from: 0, to: 1, per: "epoch" }, of);
        expect(at(step)).toBe(at(step - (step % of.stepsPerEpoch)));
      }),
    );
  });
  test("a number is a constant", () => {
    const at = schedule(0.1, run);
    expect([at(0), at(33), at(1e6)]).toEqual([0.1, 0.1, 0.1]);
  });
});

describe("what cannot be followed", () => {
  const cosine = { kind: "cosine", from: 1, to: 0 } as const;
  test.each<[string, ScheduleSpec, RunLength, string]>([
    ["a long warm-up", { ...cosine, warmup: { epochs: 11 } }, run, "the warm-up of 77 steps is longer than the run of 70"],
    [
      "a long warm-up by epoch",
      { ...cosine, per: "epoch", warmup: { epochs: 11 } },
      run,
      "the warm-up of 11 epochs is longer than the run of 10",
    ],
    ["no length of the warm-up", { ...cosine, warmup: {} }, run, "a warm-up needs either steps or epochs"],
    ["two lengths of the warm-up", { ...cosine, warmup: { steps: 1, epochs: 1 } }, run, "a warm-up needs either steps or epochs"],
    ["a negative warm-up", { ...cosine, warmup: { steps: -1 } }, run, "warmup of a schedule must be at least 0, but is -1"],
    ["no number", { ...cosine, to: Number.NaN }, run, "to of a schedule must be finite numbers, but is NaN"],
    ["no constant", Number.POSITIVE_INFINITY, run, "value of a schedule must be a finite number, but is Infinity"],
    ["no steps", cosine, { steps: 0, stepsPerEpoch: 1 }, "steps of a schedule must be above 0, but is 0"],
  ])("%s", (_, spec, of, message) => {
    expect(() => schedule(spec, of)).toThrow(ScheduleError);
    expect(() => schedule(spec, of)).toThrow(message);
  });
});
