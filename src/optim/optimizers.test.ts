// Optimisers step by step against PyTorch (tests/reference/optim_steps.py), with rates that change and gradients that are missing.
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../tests/reference/golden.js";
import { fusedAdamW, manualSeed, memoryStats, randn, type Tensor, tensor, tidy, zeros } from "../torch/index.js";
import { AdamW, LARS, type Optimizer, OptimizerError, type OptimizerState, type ParameterGroup, SGD } from "./index.js";

type Step = Record<string, Stored>;
interface Golden extends Record<string, unknown> {
  parameters: { name: string; shape: number[]; lrScale: number; decayScale: number }[];
  rates: [lr: number, weightDecay: number][];
  missing: [step: number, name: string][];
}
const golden = readGolden<Golden>("optim_steps");
type Make = (groups: ParameterGroup[]) => Optimizer;

const base = { lr: 1, weightDecay: 0 };
const betas = { betas: [0.8, 0.95] as const, eps: 1e-3 };
const cases: [title: string, key: string, make: Make][] = [
  ["AdamW, operator by operator", "AdamW", (groups) => new AdamW(groups, { ...base, fused: false })],
  [
    "AdamW of other betas, operator by operator",
    "AdamW of other betas",
    (groups) => new AdamW(groups, { ...base, ...betas, fused: false }),
  ],
  ["SGD", "SGD", (groups) => new SGD(groups, base)],
  ["SGD with momentum", "SGD with momentum", (groups) => new SGD(groups, { ...base, momentum: 0.9 })],
  ["SGD with dampening", "SGD with dampening", (groups) => new SGD(groups, { ...base, momentum: 0.9, dampening: 0.3 })],
  ["SGD with Nesterov", "SGD with Nesterov", (groups) => new SGD(groups, { ...base, momentum: 0.9, nesterov: true })],
  ["LARS", "LARS", (groups) => new LARS(groups, base)],
  [
    "LARS of another trust",
    "LARS of another trust",
    (groups) => new LARS(groups, { ...base, momentum: 0.5, trustCoefficient: 0.02 }),
  ],
];
if (fusedAdamW.available) {
  cases.push(
    ["AdamW, fused", "AdamW", (groups) => new AdamW(groups, { ...base, fused: true })],
    ["AdamW of other betas, fused", "AdamW of other betas", (groups) => new AdamW(groups, { ...base, ...betas, fused: true })],
  );
}

/** The reference program's parameters, one group each, as its groups have them. */
function start(): { parameters: Map<string, Tensor>; groups: ParameterGroup[] } {
  const parameters = new Map<string, Tensor>();
  const groups = golden.parameters.map(({ name, shape, lrScale, decayScale }, i) => {
    const values = name === "zero" ? zeros(shape, { dtype: "float64" }) : fill(shape, i + 10);
    parameters.set(name, values.requiresGrad_());
    return { parameters: [values], names: [name], lrScale, decayScale };
  });
  return { parameters, groups };
}

function setGradients(parameters: Map<string, Tensor>, step: number): void {
  for (const [i, { name, shape }] of golden.parameters.entries()) {
    const missing = golden.missing.some(([at, what]) => at === step && what === name);
    parameters.get(name)!.grad = missing ? null : fill(shape, 100 * step + i).div(step + 1);
  }
}

function takeStep(optimizer: Optimizer, parameters: Map<string, Tensor>, step: number): void {
  setGradients(parameters, step);
  const [lr, weightDecay] = golden.rates[step]!;
  optimizer.lr = lr;
  optimizer.weightDecay = weightDecay;
  optimizer.step();
}

describe("steps as PyTorch's", () => {
  for (const [title, key, make] of cases) {
    test(title, () => {
      const { parameters, groups } = start();
      const optimizer = make(groups);
      for (const [step, expected] of (golden[key] as Step[]).entries()) {
        takeStep(optimizer, parameters, step);
        for (const [name, each] of parameters) expectClose(each, expected[name]!, 1e-12, `${name} after step ${step}`);
      }
    });
  }
  test("every optimiser of the reference program is checked", () => {
    const all = Object.keys(golden).filter((key) => /^(AdamW|SGD|LARS)/.test(key));
    expect([...new Set(cases.map(([, key]) => key))].sort()).toEqual(all.sort());
  });
  testRegenerates("optim_steps");
});

describe("fused and not", () => {
  test.runIf(fusedAdamW.available)("agree in float32 with parameters of several ages in one group", () => {
    const run = (fused: boolean) => {
      manualSeed(3);
      // More elements than are updated at once, so that the group is split.
      const shapes = [[20, 30], [30], [400, 500], [300, 300]];
      const parameters = shapes.map((shape) => randn(shape, { requiresGrad: true }));
      const optimizer = new AdamW([{ parameters, names: ["a", "b", "c", "d"] }], { lr: 0.01, weightDecay: 0.1, fused });
      for (let step = 0; step < 8; step++) {
        for (const [i, each] of parameters.entries()) each.grad = i === 1 && step < 3 ? null : randn(each.shape);
        optimizer.step();
      }
      return parameters;
    };
    const fused = run(true);
    for (const [i, plain] of run(false).entries()) {
      expect(plain.detach().sub(fused[i]!.detach()).abs().amax().item(), `parameter ${i}`).toBeLessThan(2e-6);
    }
  });
  test("a gradient with another memory layout is taken by its indices", () => {
    const run = (transposed: boolean) => {
      const weight = fill([3, 4], 1).requiresGrad_();
      const optimizer = new AdamW([{ parameters: [weight], names: ["w"] }], { lr: 0.1 });
      const gradient = fill([3, 4], 2);
      weight.grad = transposed ? gradient.t().contiguous().t() : gradient;
      optimizer.step();
      return weight.toArray();
    };
    expect(run(true)).toEqual(run(false));
  });
  test("a weight with another memory layout is updated by its indices", () => {
    const run = (transposed: boolean) => {
      const values = fill([3, 4], 1);
      const weight = (transposed ? values.t().contiguous().t() : values).requiresGrad_();
      const optimizer = new AdamW([{ parameters: [weight], names: ["w"] }], { lr: 0.1 });
      for (let step = 0; step < 3; step++) {
        weight.grad = fill([3, 4], 2 + step);
        optimizer.step();
      }
      return weight.toArray();
    };
    expect(run(true)).toEqual(run(false));
  });
  test("asking for the fused operator where there is none is an error", () => {
    const make = () => new AdamW(start().groups, { lr: 1, fused: true });
    if (fusedAdamW.available) expect(make().fused).toBe(true);
    else expect(make).toThrow("no fused AdamW");
  });
});

describe("state", () => {
  /** As a checkpoint would keep it: copies, and JSON for the rest. */
  function saved(optimizer: Optimizer): OptimizerState {
    const { tensors, scalars } = optimizer.stateDict();
    const copies = new Map(Array.from(tensors, ([name, each]) => [name, each.clone()] as const));
    return { tensors: copies, scalars: JSON.parse(JSON.stringify(scalars)) };
  }

  for (const [title, , make] of cases) {
    test(`${title}: a resume continues bit for bit`, () => {
      const whole = start();
      const stopped = start();
      const a = make(whole.groups);
      const b = make(stopped.groups);
      for (let step = 0; step < 3; step++) {
        takeStep(a, whole.parameters, step);
        takeStep(b, stopped.parameters, step);
      }
      const resumed = make(stopped.groups);
      resumed.loadStateDict(saved(b));
      expect([resumed.lr, resumed.weightDecay]).toEqual([a.lr, a.weightDecay]);
      for (let step = 3; step < golden.rates.length; step++) {
        takeStep(a, whole.parameters, step);
        takeStep(resumed, stopped.parameters, step);
      }
      for (const [name, each] of whole.parameters) expect(stopped.parameters.get(name)!.equal(each), name).toBe(true);
    });
  }

  test("is named by parameter and slot, and counts each parameter's own steps", () => {
    const { parameters, groups } = start();
    const optimizer = new AdamW(groups, { lr: 1 });
    expect(optimizer.stateDict().tensors.size).toBe(0);
    for (let step = 0; step < 2; step++) takeStep(optimizer, parameters, step);
    const { tensors, scalars } = optimizer.stateDict();
    expect([...tensors.keys()]).toEqual(
      ["weight", "kernel", "scale", "zero"].flatMap((name) => [`${name}.exp_avg`, `${name}.exp_avg_sq`]),
    );
    expect(scalars).toEqual({ kind: "AdamW", lr: 0.2, weightDecay: 0.05, steps: { weight: 2, kernel: 2, scale: 2, zero: 2 } });
  });
  test("an optimiser can load its own state", () => {
    const { parameters, groups } = start();
    const optimizer = new AdamW(groups, { lr: 1 });
    takeStep(optimizer, parameters, 0);
    const before = optimizer.stateDict().tensors.get("zero.exp_avg")!.toArray();
    optimizer.loadStateDict(optimizer.stateDict());
    expect(optimizer.stateDict().tensors.get("zero.exp_avg")!.toArray()).toEqual(before);
  });
  test("what does not fit is named, and nothing is changed", () => {
    const { parameters, groups } = start();
    const optimizer = new AdamW(groups, { lr: 1 });
    takeStep(optimizer, parameters, 0);
    const { tensors, scalars } = saved(optimizer);
    tensors.delete("kernel.exp_avg_sq");
    tensors.set("zero.exp_avg", zeros([3]));
    tensors.set("weight.mu", zeros([1]));
    const wrong = { tensors, scalars: { ...scalars, lr: 77, steps: { ...scalars.steps, head: 1 } } };
    const before = optimizer.stateDict().tensors.get("weight.exp_avg")!.toArray();
    expect(() => optimizer.loadStateDict(wrong)).toThrow(
      "the state does not fit the optimiser's parameters; unknown: head, weight.mu; missing: kernel.exp_avg_sq; " +
        "of another shape: zero.exp_avg (given [3], expected [2, 2])",
    );
    expect(optimizer.lr).not.toBe(77);
    expect(optimizer.stateDict().tensors.get("weight.exp_avg")!.toArray()).toEqual(before);
    const other = new SGD(start().groups, { lr: 1 });
    expect(() => other.loadStateDict(saved(optimizer))).toThrow("the state is of AdamW, but the optimiser is SGD");
  });
});

describe("what it may be given", () => {
  const one = (name = "w") => ({ parameters: [tensor([1], { requiresGrad: true })], names: [name] });
  test("nothing, the same name or the same parameter twice, or too few names, is refused", () => {
    expect(() => new SGD([], { lr: 1 })).toThrow("no parameter");
    expect(() => new SGD([one(), one()], { lr: 1 })).toThrow("two parameters are named w");
    const { parameters } = one();
    const twice = [
      { parameters, names: ["a"] },
      { parameters, names: ["b"] },
    ];
    expect(() => new SGD(twice, { lr: 1 })).toThrow("the parameter b is in the groups twice");
    expect(() => new SGD([{ parameters, names: [] }], { lr: 1 })).toThrow("has 1 parameters but 0 names");
  });
  test("a rate that is no number stops before anything changes", () => {
    const group = one();
    const optimizer = new SGD([group], { lr: 1 });
    group.parameters[0]!.grad = tensor([1]);
    for (const lr of [Number.NaN, -1, Number.POSITIVE_INFINITY]) {
      optimizer.lr = lr;
      expect(() => optimizer.step()).toThrow(OptimizerError);
    }
    expect(group.parameters[0]!.toArray()).toEqual([1]);
  });
  test("Nesterov without momentum is refused", () => {
    expect(() => new SGD([one()], { lr: 1, nesterov: true })).toThrow("nesterov needs a momentum above 0");
  });
});

describe("what it leaves behind", () => {
  for (const [title, , make] of cases) {
    test(`${title}: only its state, in any scope`, () => {
      const { parameters, groups } = start();
      const optimizer = make(groups);
      tidy(() => takeStep(optimizer, parameters, 2));
      tidy(() => takeStep(optimizer, parameters, 4));
      collectGarbage();
      const before = memoryStats().handles;
      optimizer.step();
      optimizer.zeroGrad();
      expect(memoryStats().handles).toBe(before);
      expect([...parameters.values()].every((each) => each.grad === null && each.requiresGrad && each.isLeaf)).toBe(true);
      const state = optimizer.stateDict().tensors.size;
      optimizer.dispose();
      expect(memoryStats().handles).toBe(before - state);
    });
  }
});
