// The momentum teacher: its values against the plain formula (tests/reference/optim_steps.py), its ends, its buffers and its pairing.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { expectClose, fill, readGolden, type Stored } from "../../tests/reference/golden.js";
import { BatchNorm1d, Linear, Module, parameter, Sequential } from "../nn/index.js";
import { manualSeed, memoryStats, noGrad, randn, type Tensor, tidy } from "../torch/index.js";
import { Ema, PairingError } from "./index.js";

class Weight extends Module {
  weight: Tensor;
  constructor(values: Tensor) {
    super();
    this.weight = parameter(values);
  }
  forward(): void {}
}

test("follows the formula", () => {
  const golden = readGolden<{ ema: { momentum: number; teacher: Stored }[] }>("optim_steps").ema;
  const teacher = new Weight(fill([3, 4], 1));
  const student = new Weight(fill([3, 4], 2));
  const ema = new Ema(teacher, student);
  for (const [step, { momentum, teacher: expected }] of golden.entries()) {
    ema.update(momentum);
    expectClose(teacher.weight, expected, 1e-13, `step ${step}`);
    noGrad(() => student.weight.add_(fill([3, 4], 3 + step)));
  }
});

describe("properties", () => {
  const pair = (seed: number) => {
    manualSeed(seed);
    return [new Linear(5, 4), new Linear(5, 4)] as const;
  };
  test("m = 1 keeps the teacher, m = 0 takes the student, both exactly; between, it lies between", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e6 }), fc.double({ min: 0, max: 1, noNaN: true }), (seed, momentum) =>
        tidy(() => {
          const [teacher, student] = pair(seed);
          const ema = new Ema(teacher, student);
          const before = teacher.weight.toArray();
          const target = student.weight.toArray();
          ema.update(1);
          expect(teacher.weight.toArray()).toEqual(before);
          ema.update(momentum);
          for (const [i, value] of teacher.weight.toArray().entries()) {
            expect(value).toBeGreaterThanOrEqual(Math.min(before[i]!, target[i]!) - 1e-7);
            expect(value).toBeLessThanOrEqual(Math.max(before[i]!, target[i]!) + 1e-7);
          }
          ema.update(0);
          expect(teacher.weight.toArray()).toEqual(target);
          expect(student.weight.toArray()).toEqual(target);
          teacher.dispose();
          student.dispose();
        }),
      ),
      { numRuns: 30 },
    );
  });
  test("start copies everything and freezes the teacher; an equal teacher stays equal", () => {
    manualSeed(1);
    const make = () => new Sequential(new Linear(3, 3), new BatchNorm1d(3));
    const [teacher, student] = [make(), make()];
    student.call(randn([8, 3]));
    const ema = new Ema(teacher, student).start();
    expect(teacher.parameters().some((each) => each.requiresGrad)).toBe(false);
    expect(student.parameters().every((each) => each.requiresGrad)).toBe(true);
    ema.update(0.9);
    for (const [name, each] of teacher.stateDict()) expect(each.equal(student.stateDict().get(name)!), name).toBe(true);
  });
  test("leaves no handle behind and no history", () => {
    const [teacher, student] = pair(2);
    const ema = new Ema(teacher, student);
    collectGarbage();
    const before = memoryStats().handles;
    ema.update(0.9);
    expect(memoryStats().handles).toBe(before);
    expect(teacher.weight.isLeaf).toBe(true);
  });
});

describe("buffers", () => {
  const run = (buffers: "none" | "copy" | "ema") => {
    manualSeed(3);
    const [teacher, student] = [new BatchNorm1d(2), new BatchNorm1d(2)];
    const ema = new Ema(teacher, student, { buffers });
    student.call(randn([16, 2]).add(5));
    ema.update(0.75);
    const target = student.runningMean.toArray();
    return { mean: teacher.runningMean.toArray(), target, count: teacher.numBatchesTracked.item() };
  };
  test("none: left alone", () => expect(run("none")).toMatchObject({ mean: [0, 0], count: 0 }));
  test("copy: the student's", () => {
    const { mean, target, count } = run("copy");
    expect(mean).toEqual(target);
    expect(count).toBe(1);
  });
  test("ema: averaged, and counters copied", () => {
    const { mean, target, count } = run("ema");
    for (const [i, value] of mean.entries()) expect(value).toBeCloseTo(0.25 * target[i]!, 6);
    expect(count).toBe(1);
  });
});

describe("pairing", () => {
  test("every difference is named", () => {
    const teacher = new Sequential(new Linear(3, 3), new Linear(3, 2));
    const student = new Sequential(new Linear(3, 3, { bias: false }), new Linear(3, 4), new Linear(1, 1, { bias: false }));
    expect(() => new Ema(teacher, student)).toThrow(PairingError);
    expect(() => new Ema(teacher, student)).toThrow(
      "teacher and student differ in their parameters: 0.bias (only in the teacher), 1.weight (teacher [2, 3], student [4, 3]), " +
        "1.bias (teacher [2], student [4]), 2.weight (only in the student)",
    );
  });
  test("a student with more than its teacher, where that is meant", () => {
    const teacher = new Sequential(new Linear(3, 3));
    const student = new Sequential(new Linear(3, 3), new BatchNorm1d(3));
    expect(() => new Ema(teacher, student)).toThrow("1.weight (only in the student)");
    new Ema(teacher, student, { allowExtra: true }).update(0);
    expect((teacher.layers[0] as Linear).weight.equal((student.layers[0] as Linear).weight)).toBe(true);
  });
  test("the same tensor on both sides is a mistake", () => {
    const shared = new Linear(2, 2);
    expect(() => new Ema(new Sequential(shared), new Sequential(shared))).toThrow("0.weight (the same tensor in both)");
  });
  test("a momentum outside [0, 1] is refused", () => {
    const ema = new Ema(new Linear(2, 2), new Linear(2, 2));
    for (const momentum of [-0.1, 1.1, Number.NaN]) expect(() => ema.update(momentum)).toThrow("between 0 and 1");
  });
});
