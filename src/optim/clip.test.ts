// Gradient clipping against PyTorch and DINO's rule (tests/reference/optim_steps.py), and what must hold for any gradients.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { expectClose, fill, readGolden, type Stored } from "../../tests/reference/golden.js";
import { memoryStats, profile, type Tensor, tensor, tidy, zeros } from "../torch/index.js";
import { clipGradNorm, clipGradNormPerTensor, NonFiniteGradientError } from "./index.js";

interface Case {
  limit: number;
  norms: Stored;
  gradients: Stored[];
}
const golden = readGolden<{ clip: { global: Case[]; "per tensor": Case[] } }>("optim_steps").clip;

const shapes = [[3, 2], [4], [2, 2, 2]];
function withGradients(): Tensor[] {
  const parameters = shapes.map((shape, i) => {
    const each = zeros(shape, { dtype: "float64", requiresGrad: true });
    each.grad = fill(shape, i + 1).mul(3 ** i);
    return each;
  });
  return [...parameters, zeros([2], { dtype: "float64", requiresGrad: true })];
}
function parameterOf(gradient: readonly number[]): Tensor {
  const each = zeros([gradient.length], { requiresGrad: true });
  each.grad = tensor([...gradient]);
  return each;
}
const gradientsOf = (parameters: readonly Tensor[]) => parameters.map((each) => each.grad!.toArray());

describe("as the reference", () => {
  for (const [title, clip, cases] of [
    ["global norm", clipGradNorm, golden.global],
    ["norm of each tensor", clipGradNormPerTensor, golden["per tensor"]],
  ] as const) {
    for (const { limit, norms, gradients } of cases) {
      test(`${title}, limit ${limit}`, () => {
        const parameters = withGradients();
        expectClose(clip(parameters, limit), norms, 1e-12, "norms");
        for (const [i, each] of gradients.entries()) expectClose(parameters[i]!.grad!, each, 1e-12, `gradient ${i}`);
        expect(parameters[3]!.grad).toBeNull();
      });
    }
  }
});

describe("properties", () => {
  const numbers = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e4, max: 1e4 }), {
    minLength: 1,
    maxLength: 6,
  });
  const norm = (values: readonly number[]) => Math.hypot(...values);
  test("never makes anything longer, and no norm exceeds the limit", () => {
    fc.assert(
      fc.property(
        fc.array(numbers, { minLength: 1, maxLength: 4 }),
        fc.float({ min: Math.fround(1e-3), max: 1e4, noNaN: true }),
        (lists, limit) =>
          tidy(() => {
            const whole = lists.map(parameterOf);
            clipGradNorm(whole, limit);
            const each = lists.map(parameterOf);
            clipGradNormPerTensor(each, limit);
            for (const after of [gradientsOf(whole), gradientsOf(each)]) {
              for (const [i, values] of after.entries()) {
                for (const [k, value] of values.entries()) expect(Math.abs(value)).toBeLessThanOrEqual(Math.abs(lists[i]![k]!));
              }
            }
            expect(norm(gradientsOf(whole).flat())).toBeLessThanOrEqual(limit * (1 + 1e-5));
            for (const values of gradientsOf(each)) expect(norm(values)).toBeLessThanOrEqual(limit * (1 + 1e-5));
          }),
      ),
    );
  });
  test("what is short enough is not touched", () => {
    const parameters = [parameterOf([0.25, -0.5]), parameterOf([0.1])];
    const before = gradientsOf(parameters);
    clipGradNorm(parameters, 3);
    clipGradNormPerTensor(parameters, 3);
    clipGradNorm(parameters, Number.POSITIVE_INFINITY);
    clipGradNormPerTensor(parameters, Number.POSITIVE_INFINITY);
    expect(gradientsOf(parameters)).toEqual(before);
  });
  test("nor passed over", () => {
    const passes = (clip: typeof clipGradNorm, limit: number) => {
      const parameters = [parameterOf([0.3, 0.4]), parameterOf([3, 4])];
      const { operators } = profile(() => clip(parameters, limit).dispose());
      return operators.filter(({ name }) => name === "aten::mul_").reduce((sum, { calls }) => sum + calls, 0);
    };
    expect([0.1, 1, 6].map((limit) => passes(clipGradNorm, limit))).toEqual([2, 2, 0]);
    expect([0.1, 1, 6].map((limit) => passes(clipGradNormPerTensor, limit))).toEqual([2, 1, 0]);
  });
});

describe("not finite", () => {
  const inf = Number.POSITIVE_INFINITY;
  const parameters = () => [parameterOf([1, 2]), parameterOf([inf, 0]), parameterOf([Number.NaN])];
  const names = ["a.weight", "a.bias", "b.weight"];
  test("the returned norm says so", () => {
    expect(clipGradNorm(parameters(), 1).item()).toBeNaN();
    expect(clipGradNorm(parameters().slice(0, 2), 1).item()).toBe(inf);
    expect(clipGradNormPerTensor(parameters(), 1).toArray()).toEqual([Math.fround(Math.sqrt(5)), inf, Number.NaN]);
  });
  test("asked for, it is an error that names the parameters, and nothing is changed", () => {
    for (const clip of [clipGradNorm, clipGradNormPerTensor]) {
      const given = parameters();
      let error: unknown;
      try {
        clip(given, 1, { errorIfNonFinite: true, names });
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(NonFiniteGradientError);
      expect(error).toMatchObject({ names: ["a.bias", "b.weight"] });
      expect((error as Error).message).toMatch(/^the gradient is not finite in 2 parameters \(a\.bias, b\.weight\)/);
      expect(gradientsOf(given)).toEqual([[1, 2], [inf, 0], [Number.NaN]]);
    }
  });
  test("per tensor, the others are clipped as ever", () => {
    const given = parameters();
    clipGradNormPerTensor(given, 1);
    expect(Math.hypot(...given[0]!.grad!.toArray())).toBeCloseTo(1, 5);
  });
});

test("no gradient at all: norm 0, or no norms", () => {
  const parameters = [zeros([2], { requiresGrad: true })];
  expect(clipGradNorm(parameters, 1).item()).toBe(0);
  expect(clipGradNormPerTensor(parameters, 1).shape).toEqual([0]);
  expect(clipGradNorm([], 1).item()).toBe(0);
});

test("leaves one handle: the result", () => {
  const parameters = withGradients();
  collectGarbage();
  const before = memoryStats().handles;
  clipGradNorm(parameters, 1).dispose();
  clipGradNormPerTensor(parameters, 1).dispose();
  expect(memoryStats().handles).toBe(before);
});
