// Values and gradients of every layer against PyTorch (tests/reference/nn_layers.py), in float64.
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored, seedOf, testRegenerates } from "../../tests/reference/golden.js";
import { hasFusedAttention, noGrad, type Tensor, tensor } from "../torch/index.js";
import {
  Attention,
  BatchNorm1d,
  BatchNorm2d,
  Conv2d,
  ConvTranspose2d,
  GELU,
  LayerNorm,
  LayerScale,
  Linear,
  Mlp,
  type Module,
  ReLU,
  Sequential,
  WeightNormLinear,
} from "./index.js";

interface Golden {
  input: number[];
  output: Stored;
  gradient: Stored;
  parameters: Record<string, Stored>;
  buffers: Record<string, Stored>;
  weights?: Stored;
}
const golden = readGolden<Record<string, Golden>>("nn_layers");

const causal = () => {
  const rows = Array.from({ length: 5 }, (_, i) => Array.from({ length: 5 }, (_, j) => (j > i ? Number.NEGATIVE_INFINITY : 0)));
  return tensor(rows, { dtype: "float64" });
};

type Case = [make: () => Module, forward?: (module: Module, x: Tensor) => Tensor];
const masked = (module: Module, x: Tensor) => (module as Attention).call(x, { mask: causal() });
const first = (module: Module, x: Tensor) => (module as Attention).call(x, { queries: 2 });

const cases: Record<string, Case> = {
  linear: [() => new Linear(5, 4)],
  "linear of 3 dimensions": [() => new Linear(5, 4)],
  "linear without bias": [() => new Linear(5, 4, { bias: false })],
  "weight norm": [() => new WeightNormLinear(5, 4)],
  "layer norm": [() => new LayerNorm(6)],
  "layer norm of another eps": [() => new LayerNorm(6, { eps: 0.1 })],
  "layer norm without affine": [() => new LayerNorm(6, { affine: false })],
  conv: [() => new Conv2d(3, 4, 3)],
  "conv as patches": [() => new Conv2d(3, 5, 4, { stride: 4 })],
  "conv with everything": [
    () => new Conv2d(4, 6, [3, 2], { stride: [2, 1], padding: [1, 2], dilation: [1, 2], groups: 2, bias: false }),
  ],
  "transposed conv": [() => new ConvTranspose2d(3, 4, 2, { stride: 2 })],
  "transposed conv with everything": [
    () => new ConvTranspose2d(4, 6, 3, { stride: [2, 3], padding: 1, outputPadding: [1, 2], dilation: 2, groups: 2 }),
  ],
  "batch norm 1d": [() => new BatchNorm1d(4)],
  "batch norm 1d of 3 dimensions": [() => new BatchNorm1d(4, { momentum: 0.3 })],
  "batch norm 1d without affine": [() => new BatchNorm1d(4, { eps: 1e-3, affine: false })],
  "batch norm 1d in eval": [() => new BatchNorm1d(4).eval()],
  "batch norm 2d": [() => new BatchNorm2d(3)],
  "batch norm 2d in eval": [() => new BatchNorm2d(3).eval()],
  gelu: [() => new GELU()],
  relu: [() => new ReLU()],
  attention: [() => new Attention(8, { heads: 2 })],
  "attention with mask": [() => new Attention(8, { heads: 4 }), masked],
  "attention without key bias": [() => new Attention(8, { heads: 2, keyBias: false })],
  "attention without qkv bias": [() => new Attention(8, { heads: 2, qkvBias: false })],
  "attention of the first tokens": [() => new Attention(8, { heads: 2 }), first],
  "attention of the first tokens without key bias": [() => new Attention(8, { heads: 2, keyBias: false }), first],
  "layer scale": [() => new LayerScale(6, 0.1)],
  mlp: [() => new Mlp(6, 9, { out: 4 })],
  sequential: [() => new Sequential(new Linear(5, 4), new BatchNorm1d(4), new GELU(), new Linear(4, 3))],
};

/** The module in float64 with the values of the reference program. */
function prepare(make: () => Module): Module {
  const module = make().to("float64");
  noGrad(() => {
    for (const [name, each] of module.stateDict()) {
      if (name.endsWith("num_batches_tracked")) continue;
      const values = fill(each.shape, seedOf(name));
      each.copy_(name.endsWith("running_var") ? values.abs().add(0.5) : values);
    }
  });
  return module;
}

/** Compares output, gradients and buffers after a forward and a backward pass. */
function check(module: Module, expected: Golden, forward: (x: Tensor) => Tensor): void {
  const x = fill(expected.input, 1).requiresGrad_();
  const output = forward(x);
  expectClose(output, expected.output, 1e-10, "output");
  output.mul(fill(output.shape, 2)).sum().backward();
  expectClose(x.grad!, expected.gradient, 1e-10, "gradient of the input");
  const parameters = new Map(module.namedParameters());
  expect([...parameters.keys()].sort()).toEqual(Object.keys(expected.parameters));
  for (const [name, each] of parameters) expectClose(each.grad!, expected.parameters[name]!, 1e-10, `gradient of ${name}`);
  const buffers = new Map(module.namedBuffers());
  expect([...buffers.keys()].sort()).toEqual(Object.keys(expected.buffers));
  for (const [name, each] of buffers) expectClose(each, expected.buffers[name]!, 1e-10, name);
}

describe("layers, values and gradients as PyTorch's", () => {
  test("every case of the reference program is checked", () => {
    expect(Object.keys(cases)).toEqual(Object.keys(golden));
  });
  for (const [name, [make, forward = (module: Module, x: Tensor) => module.call(x) as Tensor]] of Object.entries(cases)) {
    test(name, () => {
      const module = prepare(make);
      check(module, golden[name]!, (x) => forward(module, x));
    });
  }
  testRegenerates("nn_layers");
});

describe("attention, other ways to the same result", () => {
  for (const name of Object.keys(cases).filter((each) => each.startsWith("attention"))) {
    const options = { ...(name.includes("mask") && { mask: causal() }), ...(name.includes("first") && { queries: 2 }) };
    test(`${name}: withWeights`, () => {
      const module = prepare(cases[name]![0]) as Attention;
      check(module, golden[name]!, (x) => {
        const { output, weights } = module.withWeights(x, options);
        expectClose(weights, golden[name]!.weights!, 1e-10, "weights");
        return output;
      });
    });
    test.runIf(hasFusedAttention())(`${name}: fused, where this libtorch has it`, () => {
      const heads = name.includes("mask") ? 4 : 2;
      const biases = { keyBias: !name.includes("key bias"), qkvBias: !name.includes("qkv bias") };
      const module = prepare(() => new Attention(8, { heads, ...biases, fused: true })) as Attention;
      check(module, golden[name]!, (x) => module.call(x, options));
    });
  }
  test("a width that the heads do not divide is refused", () => {
    expect(() => new Attention(10, { heads: 3 })).toThrow("the width 10 must be a multiple of the number of heads, 3");
  });
});

describe("batch norm", () => {
  test("counts batches while training only", () => {
    const norm = new BatchNorm1d(2);
    const x = tensor([
      [1, 2],
      [3, 5],
    ]);
    norm.call(x);
    norm.call(x);
    norm.eval().call(x);
    expect(norm.numBatchesTracked.item()).toBe(2);
  });
  test("an input of another shape is refused with both shapes", () => {
    expect(() => new BatchNorm1d(4).call(fill([2, 3], 1))).toThrow(
      "BatchNorm1d expects [N, 4, ...] of 2 or 3 dimensions, got [2, 3]",
    );
    expect(() => new BatchNorm2d(3).call(fill([2, 3], 1))).toThrow("BatchNorm2d expects [N, 3, ...] of 4 dimensions, got [2, 3]");
  });
});

test("weight norm: the product is the unit direction times the length", () => {
  const layer = new WeightNormLinear(6, 3, { unitNorm: true }).to("float64");
  expect(layer.weightG.toArray()).toEqual([1, 1, 1]);
  for (const length of layer.weight().norm({ dim: 1 }).toArray()) expect(length).toBeCloseTo(1, 7);
});

test("weight norm starts with the plain layer's weight", () => {
  const layer = new WeightNormLinear(6, 3);
  const difference = layer.weight().sub(layer.weightV).abs().amax().item();
  expect(difference).toBeLessThan(1e-6);
});

test("layer norm takes bfloat16 values with float32 weights, as a result under autocast is, on every libtorch", () => {
  const norm = new LayerNorm(6);
  const values = fill([4, 6], 1).float();
  const x = values.to("bfloat16").detach().requiresGrad_();
  const y = norm.call(x);
  expect(y.dtype).toBe("bfloat16");
  expect(y.float().sub(norm.call(values)).abs().amax().item()).toBeLessThan(0.02);
  y.float().mul(values).sum().backward();
  expect([x.grad!.dtype, norm.weight!.grad!.dtype]).toEqual(["bfloat16", "float32"]);
});
