// Mixed precision: which operators change their dtype, and that no cast of a weight outlives its region.
import { expect, test } from "vitest";
import { autocast, isAutocastEnabled, linear, noGrad, ones, randn, tensor, tidy } from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));

inScope("matrix products run in bfloat16, the rest stays", () => {
  const x = ones([2, 4]);
  autocast({}, () => {
    expect(isAutocastEnabled()).toBe(true);
    expect(linear(x, ones([3, 4])).dtype).toBe("bfloat16");
    expect(x.matmul(x.t()).dtype).toBe("bfloat16");
    expect(x.add(x).dtype).toBe("float32");
  });
  expect(isAutocastEnabled()).toBe(false);
  expect(linear(x, ones([3, 4])).dtype).toBe("float32");
});

inScope("regions nest, can be turned off inside, and end when something is thrown", () => {
  const x = ones([2, 2]);
  autocast({}, () => {
    autocast({ enabled: false }, () => expect(x.mm(x).dtype).toBe("float32"));
    expect(x.mm(x).dtype).toBe("bfloat16");
    expect(() =>
      autocast({ enabled: false }, () => {
        throw new Error("on purpose");
      }),
    ).toThrow("on purpose");
    expect(isAutocastEnabled()).toBe(true);
  });
  expect(isAutocastEnabled()).toBe(false);
});

inScope("the cast of a weight is dropped at the end of the outermost region", () => {
  const weight = randn([4, 4], { requiresGrad: true });
  const x = ones([1, 4]);
  const run = () => autocast({}, () => linear(x, weight).sum().item());
  const before = run();
  noGrad(() => weight.mul_(2));
  expect(run()).toBeCloseTo(2 * before, 1);
  autocast({}, () => autocast({}, () => linear(x, weight)));
  noGrad(() => weight.zero_());
  expect(run()).toBe(0);
});

inScope("gradients of float32 weights are float32", () => {
  const weight = randn([4, 4], { requiresGrad: true });
  autocast({}, () => linear(ones([2, 4]), weight).sum()).backward();
  expect(weight.grad!.dtype).toBe("float32");
  expect(weight.grad!.tolist()).toEqual(Array(4).fill([2, 2, 2, 2]));
});

test("what autocast does not know", () => {
  expect(() => autocast({ device: "tpu" as never }, () => 0)).toThrow(/unknown device "tpu"/);
  expect(() => autocast({ dtype: "int8" as never }, () => 0)).toThrow(/bfloat16 or float16, got int8/);
  expect(() => autocast({ dtype: "f" as never }, () => 0)).toThrow(/unknown dtype "f"/);
  expect(isAutocastEnabled()).toBe(false);
  expect(tensor([1]).dtype).toBe("float32");
});
