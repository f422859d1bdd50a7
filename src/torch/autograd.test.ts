// Gradients: boxed calls record history, and what backward and grad promise.
import { expect, test } from "vitest";
import { backward, enableGrad, grad, isGradEnabled, noGrad, ops, randn, tensor, tidy, zeros } from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));

inScope("boxed calls record history", () => {
  const x = tensor([2, 3], { requiresGrad: true });
  const y = ops.aten!.mul!(x, x).sum();
  expect([x.isLeaf, y.isLeaf, y.requiresGrad]).toEqual([true, false, true]);
  y.backward();
  expect(x.grad!.tolist()).toEqual([4, 6]);
});

inScope("gradients accumulate, and null starts again", () => {
  const x = tensor([1], { requiresGrad: true });
  x.mul(2).sum().backward();
  x.mul(2).sum().backward();
  expect(x.grad!.item()).toBe(4);
  x.grad = null;
  expect(x.grad).toBeNull();
  x.grad = tensor([7]);
  expect(x.grad!.item()).toBe(7);
});

inScope("a gradient that does not fit is refused", () => {
  const x = tensor([1], { requiresGrad: true });
  for (const wrong of [zeros([2]), zeros([1], { dtype: "float64" })]) {
    expect(() => {
      x.grad = wrong;
    }).toThrow(/grad must have the shape, the dtype and the device/);
  }
  expect(() => {
    x.grad = x;
  }).toThrow(/its own grad/);
});

inScope("outputs that are not scalars", () => {
  const x = tensor([1, 2], { requiresGrad: true });
  const y = x.mul(x);
  expect(() => y.backward()).toThrow(/grad can be implicitly created only for scalar outputs/);
  y.backward(tensor([10, 1]));
  expect(x.grad!.tolist()).toEqual([20, 4]);
  const [twice] = grad([x.mul(3), x.sum()], [x], { gradients: [tensor([1, 2]), null] });
  expect(twice!.tolist()).toEqual([4, 7]);
});

inScope("the second derivative", () => {
  const x = tensor([3], { requiresGrad: true });
  const [first] = grad([x.pow(3).sum()], [x], { createGraph: true });
  expect(first!.item()).toBe(27);
  const [second] = grad([first!.sum()], [x]);
  expect(second!.item()).toBe(18);
  expect(x.grad).toBeNull();
});

inScope("inputs the outputs do not depend on", () => {
  const x = tensor([1], { requiresGrad: true });
  const apart = tensor([1], { requiresGrad: true });
  expect(() => grad([x.sum()], [apart])).toThrow(/appears to not have been used in the graph/);
  expect(grad([x.sum()], [apart, x], { allowUnused: true }).map((each) => each?.item() ?? null)).toEqual([null, 1]);
});

inScope("a graph is used once unless it is retained", () => {
  const x = tensor([1, 2], { requiresGrad: true });
  const y = x.mul(x).sum();
  y.backward(undefined, { retainGraph: true });
  y.backward();
  expect(x.grad!.tolist()).toEqual([4, 8]);
  expect(() => y.backward()).toThrow(/second time/);
});

inScope("only the named leaves", () => {
  const [a, b] = [tensor([1], { requiresGrad: true }), tensor([2], { requiresGrad: true })];
  backward([a.mul(b).sum()], { inputs: [a] });
  expect(a.grad!.item()).toBe(2);
  expect(b.grad).toBeNull();
});

inScope("noGrad and enableGrad nest, and give back what was before when something is thrown", () => {
  const x = tensor([1], { requiresGrad: true });
  expect(isGradEnabled()).toBe(true);
  noGrad(() => {
    expect(x.mul(2).requiresGrad).toBe(false);
    enableGrad(() => {
      expect(x.mul(2).requiresGrad).toBe(true);
      expect(() =>
        noGrad(() => {
          throw new Error("on purpose");
        }),
      ).toThrow("on purpose");
      expect(isGradEnabled()).toBe(true);
    });
    expect(isGradEnabled()).toBe(false);
  });
  expect(isGradEnabled()).toBe(true);
});

inScope("detach, leaves and who can require gradients", () => {
  const x = tensor([1], { requiresGrad: true });
  const y = x.mul(2);
  expect(y.detach().requiresGrad).toBe(false);
  expect(() => y.requiresGrad_(false)).toThrow(/leaves only/);
  expect(() => zeros([1], { dtype: "int64", requiresGrad: true })).toThrow(
    /only floating-point tensors can require gradients, this one is int64/,
  );
  expect(x.requiresGrad_(false).requiresGrad).toBe(false);
});

inScope("what is not a Tensor is refused", () => {
  expect(() => backward([1 as never])).toThrow(/outputs expects a Tensor, got 1/);
  expect(() => backward([])).not.toThrow();
  expect(() => grad([zeros([1])], [zeros([1])])).toThrow(/does not require grad/);
  expect(() =>
    grad([randn([1], { requiresGrad: true }).mul(1)], [zeros([1], { requiresGrad: true })], { gradients: [] }),
  ).toThrow();
});

test("the graph holds what it needs after its scope has ended", () => {
  tidy(() => {
    const w = randn([4], { requiresGrad: true });
    const loss = tidy(() => w.mul(w).mul(2).sum());
    loss.backward();
    expect(w.grad!.sub(w.mul(4)).abs().sum().item()).toBeLessThan(1e-5);
  });
});
