// Module: names, sharing, state dicts and their errors, modes, moving, and what stays alive.
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import {
  manualSeed,
  memoryStats,
  noGrad,
  ones,
  randn,
  type Tensor,
  tensor,
  tidy,
  UseAfterDisposeError,
  zeros,
} from "../torch/index.js";
import { BatchNorm1d, buffer, Dropout, GELU, Identity, Linear, Module, parameter, Sequential, StateDictError } from "./index.js";

class Block extends Module {
  norm1 = new BatchNorm1d(3);
  fc = new Linear(3, 3);
  layerScale: Tensor = parameter(ones([3]));

  forward(x: Tensor): Tensor {
    return x.add(this.fc.call(this.norm1.call(x)).mul(this.layerScale));
  }
}

class Net extends Module {
  clsToken: Tensor = parameter(zeros([1, 1, 3]));
  center: Tensor = buffer(zeros([3]));
  cache: Tensor = buffer(ones([2]), { persistent: false });
  scratch: Tensor = ones([7]);
  blocks: Module[] = [new Block(), new Block()];
  head = new Sequential(new Linear(3, 2), new GELU(), new Linear(2, 2, { bias: false }));
  readonly #teacher = new Linear(3, 3);

  forward(x: Tensor): Tensor {
    const out = this.blocks.reduce((each, block) => block.call(each) as Tensor, x);
    return this.head.call(out);
  }
  get teacher(): Linear {
    return this.#teacher;
  }
}

const block = (i: number, kind: "parameters" | "buffers") =>
  (kind === "parameters"
    ? ["layer_scale", "norm1.weight", "norm1.bias", "fc.weight", "fc.bias"]
    : ["norm1.running_mean", "norm1.running_var", "norm1.num_batches_tracked"]
  ).map((name) => `blocks.${i}.${name}`);

describe("names", () => {
  test("parameters in the order of definition, own ones before those of children", () => {
    expect([...new Net().namedParameters()].map(([name]) => name)).toEqual([
      "cls_token",
      ...block(0, "parameters"),
      ...block(1, "parameters"),
      "head.0.weight",
      "head.0.bias",
      "head.2.weight",
    ]);
  });
  test("buffers, persistent and not; only persistent ones are saved", () => {
    const net = new Net();
    const buffers = [...block(0, "buffers"), ...block(1, "buffers")];
    expect([...net.namedBuffers()].map(([name]) => name)).toEqual(["center", "cache", ...buffers]);
    const saved = [...net.stateDict().keys()];
    expect(saved).not.toContain("cache");
    expect(saved).toEqual(expect.arrayContaining(["cls_token", "center", ...buffers]));
    expect(saved).toHaveLength(14 + 1 + buffers.length);
  });
  test("what is in a #private field or has no role is not part of the module", () => {
    const net = new Net();
    const names = [...net.stateDict().keys()].join(" ");
    expect(names).not.toMatch(/teacher|scratch/);
    expect([...net.namedModules()].map(([, each]) => each)).not.toContain(net.teacher);
  });
  test("a prefix goes before every name", () => {
    expect([...new Linear(2, 2).stateDict("encoder.head").keys()]).toEqual(["encoder.head.weight", "encoder.head.bias"]);
  });
  test("a shared module and a shared parameter come once, under their first name", () => {
    const shared = new Linear(2, 2);
    const net = new Sequential(shared, new GELU(), shared);
    expect([...net.namedParameters()].map(([name]) => name)).toEqual(["0.weight", "0.bias"]);
    expect(net.parameterCount).toBe(6);
    const tied = new Sequential(new Linear(2, 2, { bias: false }), new Linear(2, 2, { bias: false }));
    (tied.layers[1] as Linear).weight = (tied.layers[0] as Linear).weight;
    expect([...tied.namedParameters()].map(([name]) => name)).toEqual(["0.weight"]);
    let calls = 0;
    net.apply((each) => {
      if (each === shared) calls++;
    });
    expect(calls).toBe(1);
  });
});

describe("state dict", () => {
  test("loading copies values into the same tensors", () => {
    manualSeed(1);
    const [from, to] = [new Net(), new Net()];
    const before = to.parameters();
    expect(to.loadStateDict(from.stateDict())).toEqual({ missing: [], unexpected: [] });
    expect(to.parameters().every((each, i) => each === before[i])).toBe(true);
    for (const [name, value] of to.stateDict()) expect(value.equal(from.stateDict().get(name)!), name).toBe(true);
    expect(to.parameters().every((each) => each.requiresGrad && each.isLeaf)).toBe(true);
  });
  test("a strict load names every key and shape that differs, and changes nothing", () => {
    const net = new Linear(3, 2);
    const before = net.weight.toArray();
    const values = new Map([
      ["weight", zeros([2, 4])],
      ["gain", zeros([1])],
      ["extra.bias", zeros([1])],
    ]);
    let error: unknown;
    try {
      net.loadStateDict(values);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(StateDictError);
    expect(error).toMatchObject({
      missing: ["bias"],
      unexpected: ["gain", "extra.bias"],
      shapes: ["weight (given [2, 4], expected [2, 3])"],
      message:
        "the state dict does not fit the module; missing: bias; unexpected: gain, extra.bias; " +
        "of another shape: weight (given [2, 4], expected [2, 3])",
    });
    expect(net.weight.toArray()).toEqual(before);
  });
  test("a loose load takes what fits and tells the rest, but never another shape", () => {
    const net = new Linear(3, 2);
    const result = net.loadStateDict(
      new Map([
        ["weight", ones([2, 3])],
        ["gain", zeros([1])],
      ]),
      { strict: false },
    );
    expect(result).toEqual({ missing: ["bias"], unexpected: ["gain"] });
    expect(net.weight.toArray()).toEqual([1, 1, 1, 1, 1, 1]);
    expect(() => net.loadStateDict(new Map([["weight", ones([3, 2])]]), { strict: false })).toThrow(
      "weight (given [3, 2], expected [2, 3])",
    );
  });
  test("long lists are cut, with their length", () => {
    const values = new Map(Array.from({ length: 30 }, (_, i) => [`x${i}`, zeros([1])] as const));
    expect(() => new Identity().loadStateDict(values)).toThrow(/x19, and 10 more$/);
  });
  test("values of another dtype are converted", () => {
    const net = new Linear(2, 1, { bias: false });
    net.loadStateDict(new Map([["weight", tensor([[1, 2]], { dtype: "float64" })]]));
    expect(net.weight.dtype).toBe("float32");
    expect(net.weight.toArray()).toEqual([1, 2]);
  });
});

describe("modes and walks", () => {
  test("train and eval reach every module", () => {
    const net = new Net();
    expect(net.eval()).toBe(net);
    expect([...net.namedModules()].map(([, each]) => each.training)).not.toContain(true);
    net.train();
    expect([...net.namedModules()].map(([, each]) => each.training)).not.toContain(false);
  });
  test("apply goes in torch's order: children before their parent, in the order of definition", () => {
    const names: string[] = [];
    const net = new Net();
    expect(net.apply((_, name) => names.push(name))).toBe(net);
    expect(names).toEqual([
      "blocks.0.norm1",
      "blocks.0.fc",
      "blocks.0",
      "blocks.1.norm1",
      "blocks.1.fc",
      "blocks.1",
      "head.0",
      "head.1",
      "head.2",
      "head",
      "",
    ]);
  });
  test("requiresGrad_ and zeroGrad reach every parameter", () => {
    const net = new Net().requiresGrad_(false);
    expect(net.parameters().some((each) => each.requiresGrad)).toBe(false);
    net
      .requiresGrad_()
      .call(randn([4, 3]))
      .sum()
      .backward();
    expect(net.blocks[0]!.parameters().every((each) => each.grad !== null)).toBe(true);
    net.zeroGrad();
    expect(net.parameters().every((each) => each.grad === null)).toBe(true);
  });
});

describe("moving", () => {
  for (const dtype of ["float64", "bfloat16"] as const) {
    test(`to ${dtype} keeps handles and roles, and leaves counters alone`, () => {
      const net = new Net();
      const before = [...net.stateDict().values()];
      expect(net.to(dtype)).toBe(net);
      const after = net.stateDict();
      expect([...after.values()].every((each, i) => each === before[i])).toBe(true);
      for (const [name, each] of after) expect(each.dtype, name).toBe(name.endsWith("tracked") ? "int64" : dtype);
      expect(net.parameters().every((each) => each.requiresGrad && each.isLeaf)).toBe(true);
      const out = net.call(randn([4, 3]).to(dtype));
      expect(out.dtype).toBe(dtype);
      out.sum().backward();
      expect(net.head.parameters().every((each) => each.grad!.dtype === dtype)).toBe(true);
    });
  }
  test("gradients move along", () => {
    const net = new Linear(3, 2);
    net
      .call(ones([1, 3]))
      .sum()
      .backward();
    net.to("float64");
    expect(net.weight.grad!.dtype).toBe("float64");
    net
      .call(ones([1, 3], { dtype: "float64" }))
      .sum()
      .backward();
    expect(net.weight.grad!.toArray()).toEqual([2, 2, 2, 2, 2, 2]);
  });
  test("there and back is exact where the other type is wider", () => {
    const net = new Linear(5, 4);
    const before = net.weight.toArray();
    expect(net.to("float64").to("float32").weight.toArray()).toEqual(before);
  });
});

describe("what stays alive", () => {
  test("a call leaves its result and nothing else", () => {
    const net = new Net();
    const x = randn([4, 3]);
    noGrad(() => net.call(x).dispose());
    collectGarbage();
    const before = memoryStats().handles;
    const out = noGrad(() => net.call(x));
    expect(memoryStats().handles).toBe(before + 1);
    out.dispose();
  });
  test("parameters outlive the scope in which the module was made", () => {
    const net = tidy(() => ({ made: new Net() })).made;
    expect(net.call(randn([4, 3])).shape).toEqual([4, 2]);
    const { weight } = net.head.layers[0] as Linear;
    const hidden = { net: undefined as Net | undefined };
    tidy(() => {
      hidden.net = new Net();
    });
    expect(hidden.net!.clsToken.isDisposed).toBe(false);
    expect(weight.isDisposed).toBe(false);
  });
  test("dispose frees every parameter and buffer", () => {
    collectGarbage();
    const before = memoryStats().handles;
    const net = new Sequential(new Linear(3, 3), new BatchNorm1d(3), new Dropout(0.5));
    expect(memoryStats().handles).toBeGreaterThan(before);
    net.dispose();
    expect(memoryStats().handles).toBe(before);
    expect(() => net.call(randn([2, 3]))).toThrow(UseAfterDisposeError);
  });
});
