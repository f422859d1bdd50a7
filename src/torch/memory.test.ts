// A training loop in raw operators: live handles are the same after every step, and the process does not grow.
import { expect, test } from "vitest";
import {
  allocatorStats,
  crossEntropy,
  linear,
  manualSeed,
  memoryStats,
  noGrad,
  randint,
  randn,
  type Tensor,
  tidy,
} from "./index.js";

/** One step of gradient descent on a two-layer perceptron; gives the loss. */
function step(weights: readonly Tensor[], x: Tensor, target: Tensor): number {
  return tidy(() => {
    const [w1, b1, w2, b2] = weights as [Tensor, Tensor, Tensor, Tensor];
    const loss = crossEntropy(linear(linear(x, w1, b1).relu(), w2, b2), target);
    loss.backward();
    noGrad(() => {
      for (const weight of weights) {
        weight.sub_(weight.grad!, { alpha: 0.1 });
        weight.grad = null;
      }
    });
    return loss.item();
  });
}

test("fifty steps: the loss falls, live handles are constant, RSS is flat", () => {
  manualSeed(0);
  const sizes = [[256, 512], [256], [10, 256], [10]];
  const weights = sizes.map((size) => tidy(() => randn(size).mul(0.05)).requiresGrad_());
  const [x, target] = [randn([128, 512]), randint(0, 10, [128])];
  const [losses, handles, bytes, rss]: [number[], number[], number[], number[]] = [[], [], [], []];
  for (let i = 0; i < 50; ++i) {
    losses.push(step(weights, x, target));
    handles.push(memoryStats().handles);
    bytes.push(allocatorStats().bytesInUse);
    rss.push(process.memoryUsage.rss());
  }
  expect(losses.at(-1)!).toBeLessThan(losses[0]! / 2);
  expect(new Set(handles).size).toBe(1);
  expect(new Set(bytes.slice(1)).size).toBe(1);
  // Steps of 1 MB of temporaries: one that leaked would have grown by 40 MB.
  expect(rss[49]! - rss[9]!).toBeLessThan(16e6);
  for (const each of [...weights, x, target]) each.dispose();
});
