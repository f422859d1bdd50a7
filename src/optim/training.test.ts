// Everything together: a small network learns, leaves no handle behind, and repeats itself from a seed.
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { BatchNorm1d, Dropout, GELU, Linear, Sequential } from "../nn/index.js";
import { Generator, manualSeed, memoryStats, randn, setNumThreads, type Tensor, tidy } from "../torch/index.js";
import { AdamW, clipGradNorm, decayGroups, Ema, LARS, type Optimizer, SGD, schedule } from "./index.js";

// The tensors are too small to share.
setNumThreads(1);

const make = () => new Sequential(new Linear(6, 16), new BatchNorm1d(16), new GELU(), new Dropout(0.1), new Linear(16, 2));

function train(create: (net: Sequential) => Optimizer, steps: number) {
  manualSeed(0);
  const net = make();
  const teacher = make();
  const ema = new Ema(teacher, net, { buffers: "copy" }).start();
  const optimizer = create(net);
  const rate = schedule({ kind: "cosine", from: optimizer.lr, to: 0, warmup: { steps: 5 } }, { steps, stepsPerEpoch: 10 });
  const data = new Generator(1);
  const losses: number[] = [];
  const handles: number[] = [];
  for (let step = 0; step < steps; step++) {
    tidy(() => {
      const x = randn([32, 6], { generator: data });
      const target = x.narrow(1, 0, 2).mul(x.narrow(1, 2, 2));
      const loss = (net.call(x) as Tensor).sub(target).pow(2).mean();
      loss.backward();
      losses.push(loss.item());
      clipGradNorm(net.parameters(), 3);
      optimizer.lr = rate(step);
      optimizer.step();
      optimizer.zeroGrad();
      ema.update(0.9);
    });
    handles.push(memoryStats().handles);
  }
  const weights = [...net.parameters(), ...teacher.parameters()].flatMap((each) => each.toArray());
  optimizer.dispose();
  net.dispose();
  teacher.dispose();
  return { losses, handles, weights };
}

describe("fifty steps", () => {
  const optimizers: Record<string, (net: Sequential) => Optimizer> = {
    AdamW: (net) => new AdamW(decayGroups(net), { lr: 0.02, weightDecay: 0.05 }),
    "AdamW, operator by operator": (net) => new AdamW(decayGroups(net), { lr: 0.02, weightDecay: 0.05, fused: false }),
    SGD: (net) => new SGD(decayGroups(net, "all"), { lr: 0.1, momentum: 0.9, nesterov: true, weightDecay: 1e-4 }),
    LARS: (net) => new LARS(decayGroups(net, "all"), { lr: 20, weightDecay: 1e-6 }),
  };
  for (const [name, create] of Object.entries(optimizers)) {
    test(`${name}: the number of live handles is constant, the loss falls, and a seed repeats it all`, () => {
      collectGarbage();
      const before = memoryStats().handles;
      const { losses, handles, weights } = train(create, 50);
      expect(new Set(handles).size).toBe(1);
      expect(memoryStats().handles).toBe(before);
      const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
      expect(mean(losses.slice(-10))).toBeLessThan(0.8 * mean(losses.slice(0, 10)));
      expect(train(create, 50).weights).toEqual(weights);
    });
  }
});
