// Fused operators against the operators they stand for, computed in float64, where nothing is fused: values and all gradients.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OperatorError } from "./errors.js";
import {
  addNorm,
  allocatorStats,
  arange,
  autocast,
  type Branch,
  backward,
  biasGelu,
  crossAttention,
  fusesAttention,
  gelu,
  geluLinear,
  grad,
  hasOp,
  jointAttention,
  linear,
  manualSeed,
  noGrad,
  normFor,
  ones,
  op,
  pairedCrossEntropy,
  randn,
  type Tensor,
  tensor,
  tidy,
  usesFused,
  weightNorm,
  withFused,
  zeros,
} from "./index.js";

const runs = { numRuns: 25 };
const size = (max: number) => fc.integer({ min: 1, max });
/** Of rows whose sums are compared: in one alone nearly all may cancel. */
const several = (max: number) => fc.integer({ min: 4, max });
/** Of norms: that of a few numbers turns rounding into much more. */
const widths = fc.integer({ min: 8, max: 70 });
/** Of products: one number alone may be what is left of large ones. */
const sides = fc.integer({ min: 4, max: 150 });
const attends = hasOp("tessera::attention");
const halfLinear = hasOp("tessera::linear");

/** How far `actual` is from `expected`, over how large that is. */
function distance(actual: Tensor, expected: Tensor): number {
  const [a, b] = [actual.to("float64"), expected.to("float64")];
  return a.sub(b).norm().item() / Math.max(1e-6, b.norm().item());
}

type Named = Record<string, Tensor>;

/** Outputs of `fn` and gradients of its inputs, by name, for gradients of the outputs that a seed gives. */
function measured(fn: (inputs: Named) => Named, inputs: Named): Named {
  const leaves: Named = {};
  for (const [name, value] of Object.entries(inputs)) {
    leaves[name] = value.detach();
    leaves[name].requiresGrad = true;
  }
  const outputs = fn(leaves);
  manualSeed(1);
  const gradients = Object.values(outputs).map((each) => randn(each.shape).to(each.dtype));
  backward(Object.values(outputs), { gradients });
  const found: Named = { ...outputs };
  for (const [name, leaf] of Object.entries(leaves)) found[`gradient of ${name}`] = leaf.grad!;
  return found;
}

/** The fused form of `fn` beside the plain one in float64. */
function compare(fn: (inputs: Named) => Named, inputs: Named, tolerance: number): void {
  const wide = Object.fromEntries(Object.entries(inputs).map(([name, each]) => [name, each.to("float64")]));
  const expected = withFused(false, () => measured(fn, wide));
  const actual = withFused(true, () => measured(fn, inputs));
  for (const [name, each] of Object.entries(expected)) {
    expect(distance(actual[name]!, each), name).toBeLessThan(tolerance);
  }
}

/** To run `fn` as autocast does, where `half`. */
const inPrecision = <R>(bf16: boolean, fn: () => R): R => (bf16 ? autocast({}, fn) : fn());
/** Rounding of single numbers, and of sums of a few in which they cancel: bfloat16 has 8 bits. */
const tolerances = { float32: 2e-5, bfloat16: 4e-2 };

describe.each(["float32", "bfloat16"] as const)("in %s", (dtype) => {
  const tolerance = tolerances[dtype];

  test("a bias with GELU", () => {
    fc.assert(
      fc.property(several(12), widths, fc.boolean(), (rows, width, biased) =>
        tidy(() => {
          manualSeed(rows * width);
          const x = randn([rows, 2, width]).mul(3).to(dtype);
          const inputs: Named = biased ? { x, bias: randn([width]) } : { x };
          compare(({ x, bias }) => ({ out: biasGelu(x!, bias ?? null) }), inputs, tolerance);
        }),
      ),
      runs,
    );
  });

  test("GELU with the linear layer after it", () => {
    fc.assert(
      fc.property(several(12), sides, sides, fc.boolean(), fc.boolean(), (rows, from, to, biased, outBiased) =>
        tidy(() => {
          manualSeed(rows * from * to);
          const inputs: Named = {
            x: randn([rows, 2, from]).mul(2).to(dtype),
            weight: randn([to, from]),
            ...(biased ? { bias: randn([from]) } : {}),
            ...(outBiased ? { outBias: randn([to]) } : {}),
          };
          const fn = ({ x, bias, weight, outBias }: Named) => ({
            out: geluLinear(x!, bias ?? null, weight!, outBias ?? null),
          });
          inPrecision(dtype === "bfloat16", () => compare(fn, inputs, tolerance));
        }),
      ),
      runs,
    );
  });

  test("a norm for a matrix product", () => {
    fc.assert(
      fc.property(size(9), widths, (rows, width) =>
        tidy(() => {
          manualSeed(rows * width);
          const inputs = { x: randn([rows, 3, width]).mul(2).add(1), weight: randn([width]), bias: randn([width]) };
          const fn = ({ x, weight, bias }: Named) => ({ out: normFor(x!, { weight: weight!, bias: bias!, eps: 1e-3 }) });
          inPrecision(dtype === "bfloat16", () => compare(fn, inputs, tolerance));
        }),
      ),
      runs,
    );
  });

  test("a residual sum with its norm, whatever the branch consists of", () => {
    fc.assert(
      fc.property(
        size(4),
        size(9),
        widths,
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        (batch, length, width, biased, scaled, dropped) =>
          tidy(() => {
            manualSeed(batch * length * width);
            const inputs: Named = {
              x: randn([batch, length, width]),
              branch: randn([batch, length, width]).to(dtype),
              weight: randn([width]),
              shift: randn([width]),
              ...(biased ? { bias: randn([width]) } : {}),
              ...(scaled ? { gamma: randn([width]) } : {}),
            };
            const keep = dropped ? randn([batch]).gt(0).float().mul(2) : null;
            const fn = ({ x, branch, weight, shift, bias, gamma }: Named): Named => {
              const added: Branch = { x: branch!, bias, gamma, keep: keep?.to(x!.dtype) };
              return addNorm(x!, added, { weight: weight!, bias: shift!, eps: 1e-3 }) as unknown as Named;
            };
            inPrecision(dtype === "bfloat16", () => compare(fn, inputs, tolerance));
          }),
      ),
      runs,
    );
  });

  test("rows of given lengths", () => {
    fc.assert(
      fc.property(several(40), widths, fc.boolean(), (rows, width, trained) =>
        tidy(() => {
          manualSeed(rows * width);
          const v = randn([rows, width]).add(0.1);
          const lengths = randn([rows, 1]).add(2);
          const inputs: Named = trained ? { v, g: lengths } : { v };
          const fn = ({ v, g }: Named) => ({ out: weightNorm(v!, g ?? lengths.to(v!.dtype)) });
          inPrecision(dtype === "bfloat16", () => compare(fn, inputs, tolerance));
        }),
      ),
      runs,
    );
  });

  test.each([1, 2, 3])("rows of given lengths, %i of them", (rows) => {
    tidy(() => {
      manualSeed(rows);
      const inputs = { v: randn([rows, 40]).add(0.1), g: randn([rows, 1]).add(2) };
      inPrecision(dtype === "bfloat16", () => compare(({ v, g }) => ({ out: weightNorm(v!, g!) }), inputs, tolerance));
    });
  });

  test("cross-entropies of views with the distributions they are paired with", () => {
    fc.assert(
      fc.property(size(5), size(3), size(4), fc.integer({ min: 8, max: 90 }), (views, teachers, samples, classes) =>
        tidy(() => {
          manualSeed(views * classes);
          const logits = randn([views, samples, classes]).mul(2).to(dtype);
          const distributions = randn([teachers, samples, classes]).mul(3).softmax(-1);
          // Whole numbers, some of them none.
          const pairs = Array.from({ length: views }, (_, v) => Array.from({ length: teachers }, (_, t) => (v + 2 * t) % 3));
          const fn = ({ logits }: Named) => ({ out: pairedCrossEntropy(logits!, distributions, pairs, 0.5) });
          compare(fn, { logits }, tolerance);
        }),
      ),
      runs,
    );
  });
});

test("GELU in bfloat16 wherever it bends, far away, and of what is not a number", () => {
  tidy(() => {
    const at = (numbers: number[]) => tensor(numbers).to("bfloat16");
    const near = at(Array.from({ length: 4097 }, (_, i) => (i - 2048) / 256));
    const valueAndSlope = (x: Tensor, fn: (x: Tensor) => Tensor) => {
      const z = x.detach();
      z.requiresGrad = true;
      // The operator's own values also where it is turned off: libtorch's are farther off on some processors.
      const value = withFused(true, () => fn(z));
      return [value.detach(), grad([value.sum()], [z])[0]!];
    };
    const found = valueAndSlope(near, (z) => biasGelu(z, null));
    const expected = valueAndSlope(near.to("float64"), (z) => gelu(z));
    for (const [i, each] of found.entries()) {
      const allowed = expected[i]!.abs().div(256).add(3e-6);
      expect(each.to("float64").sub(expected[i]!).abs().div(allowed).norm({ p: Number.POSITIVE_INFINITY }).item()).toBeLessThan(
        1,
      );
    }
    const [far, slope] = valueAndSlope(at([-3e38, -50, 50, 3e38]), (z) => biasGelu(z, null));
    expect(
      far!
        .float()
        .clamp({ min: -1, max: 1 })
        .sub(tensor([0, 0, 1, 1]))
        .norm()
        .item(),
    ).toBeLessThan(1e-6);
    expect(
      slope!
        .float()
        .sub(tensor([0, 0, 1, 1]))
        .norm()
        .item(),
    ).toBeLessThan(1e-6);
    for (const each of valueAndSlope(at([Number.NaN]), (z) => biasGelu(z, null))) expect(each.float().item()).toBeNaN();
  });
});

describe("GELU with the linear layer after it", () => {
  const parts = (): [x: Tensor, bias: Tensor, weight: Tensor, outBias: Tensor] => [
    randn([40, 64]),
    randn([64]),
    randn([48, 64]),
    randn([48]),
  ];

  test("of many rows, whatever of it is trained", () => {
    for (const frozen of [[], [0], [1], [2], [3], [0, 1], [2, 3], [0, 1, 2]]) {
      for (const bf16 of halfLinear ? [false, true] : [false]) {
        tidy(() => {
          manualSeed(7);
          const given = [randn([2100, 64]), randn([64]), randn([48, 64]), randn([48])] as const;
          const trained = given.filter((_, i) => !frozen.includes(i));
          for (const each of trained) each.requiresGrad = true;
          const pass = (fused: boolean) =>
            withFused(fused, () => {
              const [x, bias, weight, outBias] = given;
              return inPrecision(bf16, () => geluLinear(bf16 ? x.to("bfloat16") : x, bias, weight, outBias));
            });
          const [actual, expected] = [true, false].map((fused) => {
            const out = pass(fused);
            return [out, ...grad([out], [...trained], { gradients: [ones(out.shape).to(out.dtype)] })];
          });
          for (const [i, each] of expected!.entries()) {
            expect(distance(actual![i]!, each!), `${i} without gradients of ${frozen}`).toBeLessThan(bf16 ? 2e-2 : 2e-5);
          }
        });
      }
    }
  });

  test("what comes out of GELU is not kept for the backward pass", () => {
    tidy(() => {
      const [x, bias, weight] = [randn([1000, 512]), zeros([512]), randn([8, 512])];
      for (const each of [x, bias, weight]) each.requiresGrad = true;
      const kept = (fused: boolean) => {
        const before = allocatorStats().bytesInUse;
        const out = withFused(fused, () => geluLinear(x, bias, weight, null));
        const bytes = allocatorStats().bytesInUse - before;
        out.dispose();
        return bytes;
      };
      const [fused, plain] = [kept(true), kept(false)];
      expect(fused).toBeLessThan(1e5);
      expect(plain).toBeGreaterThan(2e6);
    });
  });

  test("arguments that do not fit are told", () => {
    tidy(() => {
      const both = op("tessera::gelu_linear");
      const [x, bias, weight, outBias] = parts();
      expect(() => both(x.to("float64"), bias, weight, outBias)).toThrow(/expects x as a float32 or bfloat16 tensor on the CPU/);
      expect(() => both(x, outBias, weight, outBias)).toThrow(/expects bias as a float32 vector of 64/);
      expect(() => both(x, bias, weight.t(), outBias)).toThrow(/expects a float32 weight \[out, 64\], got \[64, 48\]/);
      expect(() => both(x, bias, weight.to("bfloat16"), outBias)).toThrow(/expects a float32 weight/);
      expect(() => both(x, bias, weight, bias)).toThrow(/expects outBias as a float32 vector of 48/);
      expect(() => both(zeros([2, 0]), null, zeros([48, 0]), outBias)).toThrow(/expects rows of some numbers/);
    });
  });

  test("a second derivative is refused", () => {
    tidy(() => {
      const [x, bias, weight, outBias] = parts();
      weight.requiresGrad = true;
      const out = withFused(true, () => geluLinear(x, bias, weight, outBias).sum());
      expect(() => grad([out], [weight], { createGraph: true })).toThrow(/gelu_linear has no second derivatives/);
    });
  });

  test("of no rows, as of a linear layer alone", () => {
    tidy(() => {
      const [, bias, weight, outBias] = parts();
      for (const each of [bias, weight, outBias]) each.requiresGrad = true;
      for (const bf16 of halfLinear ? [false, true] : [false]) {
        const x = zeros([0, 64]).to(bf16 ? "bfloat16" : "float32");
        const both = inPrecision(bf16, () => geluLinear(x, bias, weight, outBias));
        const alone = inPrecision(bf16, () => linear(x, weight, outBias));
        for (const out of [both, alone]) {
          expect(out.shape).toEqual([0, 48]);
          const [a, b] = grad([out.sum()], [weight, outBias]);
          expect([a!.shape, a!.norm().item(), b!.norm().item()]).toEqual([[48, 64], 0, 0]);
        }
      }
    });
  });
});

test("cross-entropies of far logits are finite, and of what is not a number are none", () => {
  const certain = zeros([1, 2, 40]);
  certain.select(2, 7).fill_(1);
  const logits = zeros([2, 2, 40]);
  logits.select(0, 1).fill_(-3e4);
  logits.select(2, 7).fill_(3e4);
  const loss = pairedCrossEntropy(logits, certain, [[1], [1]], 0.1);
  expect(loss.abs().amax().item()).toBe(0);
  for (const [value, at] of [
    [Number.NaN, 3],
    [Number.NaN, 39],
    [Number.POSITIVE_INFINITY, 3],
  ] as const) {
    const broken = randn([1, 2, 40]);
    broken.select(2, at).fill_(value);
    expect(pairedCrossEntropy(broken, certain, [[1]], 1).toArray()).toEqual([Number.NaN, Number.NaN]);
  }
});

test("what the operators of prototypes do not take is told in words", () => {
  const entropy = (logits: Tensor, targets: Tensor, pairs: number[], temperature = 1) =>
    op("tessera::paired_cross_entropy")(logits, targets, pairs, temperature);
  const logits = randn([3, 2, 8]);
  const targets = randn([2, 2, 8]).softmax(-1);
  const pairs = [0, 1, 1, 0, 1, 1];
  expect(() => entropy(logits.to("float64"), targets, pairs)).toThrow(/logits as a float32 or bfloat16 tensor/);
  expect(() => entropy(logits.flatten(0, 1), targets, pairs)).toThrow(/logits \[views, samples, classes\]/);
  expect(() => entropy(logits, randn([2, 2, 9]), pairs)).toThrow(/targets as float32 \[teachers, 2, 8\]/);
  expect(() => entropy(logits, targets, [1, 1])).toThrow(/a weight for each of 3 views and 2 targets, got 2/);
  expect(() => entropy(logits, targets, pairs, 0)).toThrow(/a temperature above 0/);
  expect(() => entropy(logits, randn([2, 2, 8], { requiresGrad: true }), pairs)).toThrow(/have no gradient/);
  const scaled = op("tessera::weight_norm");
  expect(() => scaled(randn([3]), randn([3, 1]), false)).toThrow(/v as a float32 matrix/);
  expect(() => scaled(randn([3, 4]), randn([4, 1]), false)).toThrow(/g as a float32 column of 3/);
});

test("only the sum or only the norm may be wanted", () => {
  tidy(() => {
    const inputs = { x: randn([3, 20]), branch: randn([3, 20]), weight: randn([20]), shift: randn([20]) };
    for (const wanted of ["sum", "normed"] as const) {
      const fn = ({ x, branch, weight, shift }: Named) => {
        const both = addNorm(x!, { x: branch! }, { weight: weight!, bias: shift!, eps: 1e-6 });
        return { [wanted]: both[wanted].add(weight!.mul(0)).add(shift!.mul(0)) };
      };
      compare(fn, inputs, 1e-5);
    }
  });
});

describe.skipIf(!halfLinear)("on a CPU with a micro-kernel for bfloat16", () => {
  test("a linear layer whose weight is trained", () => {
    fc.assert(
      fc.property(sides, sides, sides, fc.boolean(), (rows, from, to, biased) =>
        tidy(() => {
          manualSeed(rows * from * to);
          const inputs: Named = { x: randn([rows, from]), weight: randn([to, from]), ...(biased ? { bias: randn([to]) } : {}) };
          autocast({}, () =>
            compare(({ x, weight, bias }) => ({ out: linear(x!, weight!, bias ?? null) }), inputs, tolerances.bfloat16),
          );
        }),
      ),
      runs,
    );
  });

  test("the weight's gradient has all rows and outputs, whichever of them threads share and whichever sides are longer", () => {
    for (const [rows, from, to] of [
      [2500, 40, 70],
      [4100, 200, 420],
      [4100, 420, 200],
      [700, 200, 420],
      [700, 420, 200],
      [33, 200, 700],
    ] as const) {
      tidy(() => {
        const inputs = { x: randn([rows, from]), weight: randn([to, from]), bias: randn([to]) };
        autocast({}, () => compare(({ x, weight, bias }) => ({ out: linear(x!, weight!, bias!) }), inputs, 1e-2));
      });
    }
  });

  test("a layer's passes share its rounded weight until it changes", () => {
    tidy(() => {
      manualSeed(0);
      const [x, weight] = [randn([5, 32]).to("bfloat16"), randn([48, 32])];
      weight.requiresGrad = true;
      const pass = () => autocast({}, () => linear(x, weight));
      const rounded = () => x.float().matmul(weight.detach().to("bfloat16").float().t());
      const first = pass();
      expect(distance(first, rounded())).toBeLessThan(1e-2);
      expect(distance(noGrad(pass), first)).toBe(0);
      noGrad(() => weight.mul_(-1));
      expect(distance(pass(), rounded())).toBeLessThan(1e-2);
      expect(distance(noGrad(pass), first.neg())).toBe(0);
      // The pass before the change goes back through the weight that it went forward through.
      const leaf = x.detach();
      leaf.requiresGrad = true;
      const before = autocast({}, () => linear(leaf, weight));
      const expected = weight.detach().to("bfloat16").float().sum(0).expand([5, 32]);
      noGrad(() => weight.fill_(0));
      expect(distance(grad([before], [leaf], { gradients: [ones([5, 48]).to("bfloat16")] })[0]!, expected)).toBeLessThan(1e-2);
      expect(pass().norm().item()).toBe(0);
    });
  });

  test("a weight that does not fit is told", () => {
    tidy(() => {
      expect(() => op("tessera::linear")(randn([2, 3]).to("bfloat16"), randn([4, 2]), null)).toThrow(/expects a float32 weight/);
    });
  });
});

describe.skipIf(!attends).each(["float32", "bfloat16"] as const)("attention in %s, on a CPU with AVX2 or AVX-512", (dtype) => {
  const tolerance = tolerances[dtype];

  /** What the operator stands for, in the dtype of its arguments. */
  function plainAttention(qkv: Tensor, bias: Tensor | undefined, mask: Tensor | undefined, heads: number, scale: number): Tensor {
    const [batch = 0, length = 0] = qkv.shape;
    const projected = bias ? qkv.add(bias) : qkv;
    const [q, k, v] = projected.view([batch, length, 3, heads, -1]).permute([2, 0, 3, 1, 4]).unbind(0);
    const scores = q!.matmul(k!.transpose(-2, -1)).mul(scale);
    const weights = (mask ? scores.add(mask) : scores).softmax(-1);
    return weights.matmul(v!).transpose(1, 2).reshape([batch, length, -1]);
  }

  test("over all tokens, with and without bias and mask", () => {
    fc.assert(
      fc.property(
        size(3),
        size(70),
        size(3),
        size(9),
        fc.boolean(),
        fc.boolean(),
        (batch, length, heads, parts, biased, masked) =>
          tidy(() => {
            const width = heads * parts * 8;
            manualSeed(batch * length * width);
            const inputs: Named = {
              qkv: randn([batch, length, 3 * width]).to(dtype),
              ...(biased ? { bias: randn([3 * width]) } : {}),
            };
            const mask = masked ? randn([batch, 1, length, length]) : undefined;
            const scale = (parts * 8) ** -0.5;
            const fn = ({ qkv, bias }: Named) => ({
              out: usesFused()
                ? jointAttention(qkv!, { heads, scale, bias: bias ?? null, mask })
                : plainAttention(qkv!, bias, mask?.to("float64"), heads, scale),
            });
            compare(fn, inputs, tolerance);
          }),
      ),
      runs,
    );
  });

  test("over more tokens than one block of scores has", () => {
    tidy(() => {
      const inputs = { qkv: randn([1, 600, 96]).to(dtype) };
      const fn = ({ qkv }: Named) => ({
        out: usesFused()
          ? jointAttention(qkv!, { heads: 1, scale: 0.2, bias: null })
          : plainAttention(qkv!, undefined, undefined, 1, 0.2),
      });
      compare(fn, inputs, tolerance);
    });
  });

  test("to other tokens, with and without biases and mask", () => {
    fc.assert(
      fc.property(
        fc.tuple(size(3), size(70), size(70), size(3), size(9)),
        fc.boolean(),
        fc.boolean(),
        ([batch, asking, told, heads, parts], biased, masked) =>
          tidy(() => {
            const width = heads * parts * 8;
            manualSeed(batch * asking * told * width);
            // One tensor of all tokens and one of both biases, because the gradient of a query that sees few keys is little but rounding.
            const inputs: Named = {
              tokens: randn([batch, asking + 2 * told, width]).to(dtype),
              ...(biased ? { biases: randn([2 * width]) } : {}),
            };
            const mask = masked ? randn([1, heads, asking, told]) : undefined;
            const scale = (parts * 8) ** -0.5;
            const split = (x: Tensor) => x.reshape([x.size(0), x.size(1), heads, -1]).transpose(1, 2);
            const fn = ({ tokens, biases }: Named) => {
              const [qBias = null, vBias = null] = biases?.split(width) ?? [];
              const [q, k, v] = [
                tokens!.narrow(1, 0, asking),
                tokens!.narrow(1, asking, told),
                tokens!.narrow(1, asking + told, told),
              ] as const;
              if (usesFused()) return { out: crossAttention([q, k, v], { heads, scale, qBias, vBias, mask }) };
              const scores = split(qBias ? q.add(qBias) : q)
                .matmul(split(k).transpose(-2, -1))
                .mul(scale);
              const weights = (mask ? scores.add(mask.to("float64")) : scores).softmax(-1);
              const seen = weights.matmul(split(vBias ? v.add(vBias) : v));
              return { out: seen.transpose(1, 2).reshape([batch, asking, width]) };
            };
            compare(fn, inputs, tolerance);
          }),
      ),
      runs,
    );
  });

  test("where a mask hides what comes later, from whole blocks too", () => {
    for (const [asking, told, segment, heads, earlier] of [
      [250, 250, 1, 2, false],
      [250, 250, 60, 1, true],
      [130, 310, 17, 2, false],
      [310, 130, 40, 1, false],
    ] as const) {
      tidy(() => {
        manualSeed(asking);
        const inputs: Named = { q: randn([2, asking, 32]), k: randn([2, told, 32]), v: randn([2, told, 32]) };
        for (const name of ["q", "k", "v"]) inputs[name] = inputs[name]!.to(dtype);
        const rank = (count: number) => arange(0, count).div(segment).floor();
        const [query, key] = [rank(asking).unsqueeze(1), rank(told).unsqueeze(0)];
        const hidden = earlier ? key.lt(query) : key.gt(query);
        const mask = zeros([1, 1, asking, told]).maskedFill(hidden, Number.NEGATIVE_INFINITY);
        const fn = ({ q, k, v }: Named) => {
          const split = (x: Tensor) => x.reshape([2, x.size(1), heads, -1]).transpose(1, 2);
          if (usesFused()) return { out: crossAttention([q!, k!, v!], { heads, scale: 0.3, qBias: null, vBias: null, mask }) };
          const scores = split(q!).matmul(split(k!).transpose(-2, -1)).mul(0.3).add(mask.to("float64"));
          return { out: scores.softmax(-1).matmul(split(v!)).transpose(1, 2).reshape([2, asking, 32]) };
        };
        compare(fn, inputs, tolerance);
      });
    }
  });

  test("to parts of one product, which do not lie together", () => {
    tidy(() => {
      const fn = ({ qkv }: Named) => {
        const parts = qkv!.split(16, 2) as [Tensor, Tensor, Tensor];
        const biases = { qBias: null, vBias: null };
        return {
          out: usesFused()
            ? crossAttention(parts, { heads: 2, scale: 0.3, ...biases })
            : plainAttention(qkv!, undefined, undefined, 2, 0.3),
        };
      };
      compare(fn, { qkv: randn([2, 300, 48]).to(dtype) }, tolerance);
    });
  });

  test("biases in the tokens' own dtype, as those of a model that is in bfloat16 throughout", () => {
    tidy(() => {
      const [qkv, bias] = [randn([2, 7, 48]).to(dtype), randn([48]).to(dtype)];
      const joint = (given: Tensor) => jointAttention(qkv, { heads: 2, scale: 0.4, bias: given });
      expect(joint(bias).equal(joint(bias.float()))).toBe(true);
      const [q, k, v] = qkv.split(16, 2) as [Tensor, Tensor, Tensor];
      const [qBias, , vBias] = bias.split(16) as [Tensor, Tensor, Tensor];
      const across = (first: Tensor, last: Tensor) =>
        crossAttention([q, k, v], { heads: 2, scale: 0.4, qBias: first, vBias: last });
      expect(across(qBias, vBias).equal(across(qBias.float(), vBias.float()))).toBe(true);
    });
  });

  test("a mask for all samples", () => {
    tidy(() => {
      const [x, mask] = [randn([3, 7, 48]).to(dtype), randn([2, 7, 7])];
      const seen = (each: Tensor) => jointAttention(x, { heads: 2, scale: 0.4, bias: null, mask: each });
      expect(seen(mask).equal(seen(mask.unsqueeze(0)))).toBe(true);
    });
  });

  test("where it is one operator: without a gradient of the mask", () => {
    withFused(true, () =>
      tidy(() => {
        const x = randn([2, 5, 16]).to(dtype);
        const fuses = (mask?: Tensor, queries = x) => fusesAttention(queries, x, mask);
        const fast = dtype === "float32" || halfLinear;
        expect(fuses()).toBe(fast);
        if (!fast) return;
        expect(fuses(undefined, x.to("float64"))).toBe(false);
        expect(fusesAttention(x.to("float64"), x.to("float64"), undefined)).toBe(false);
        expect(autocast({}, fuses)).toBe(halfLinear);
        expect(withFused(false, fuses)).toBe(false);
        const mask = zeros([1, 1, 5, 5]);
        expect(fuses(mask)).toBe(true);
        expect(fuses(zeros([2, 5, 5]))).toBe(true);
        expect(fuses(zeros([5, 5]))).toBe(false);
        expect(fuses(zeros([1, 1, 1, 5]))).toBe(false);
        expect(fuses(zeros([1, 1, 1, 5]), x.narrow(1, 0, 1))).toBe(true);
        mask.requiresGrad = true;
        expect(fuses(mask)).toBe(false);
      }),
    );
  });

  test("their arguments are looked at", () => {
    tidy(() => {
      const attention = op("tessera::attention");
      expect(() => attention(randn([1, 2, 6]).to("float64"), null, null, 1, 1)).toThrow(
        /expects qkv as a float32 or bfloat16 tensor \[B, N, 3 C\]/,
      );
      expect(() => attention(randn([1, 2, 6]).to(dtype), null, null, 4, 1)).toThrow(/expects heads that divide/);
      expect(() => attention(randn([1, 2, 6]).to(dtype), zeros([5]), null, 1, 1)).toThrow(/expects a float32 bias of 6/);
      expect(() => attention(randn([1, 2, 6]).to(dtype), null, zeros([1, 1, 2, 3]), 1, 1)).toThrow(/expects a float32 mask/);
      const across = op("tessera::cross_attention");
      const tokens = (shape: number[]) => randn(shape).to(dtype);
      expect(() => across(randn([1, 2, 4]).to("float64"), tokens([1, 2, 4]), tokens([1, 2, 4]), null, null, null, 1, 1)).toThrow(
        /expects q as a float32 or bfloat16/,
      );
      expect(() => across(tokens([1, 2, 4]), tokens([2, 2, 4]), tokens([1, 2, 4]), null, null, null, 1, 1)).toThrow(
        /expects k as a float32 or bfloat16/,
      );
      expect(() => across(tokens([1, 2, 4]), tokens([1, 3, 4]), tokens([1, 2, 4]), null, null, null, 1, 1)).toThrow(
        /as many values as keys, 3/,
      );
      expect(() => across(tokens([1, 2, 4]), tokens([1, 3, 4]), tokens([1, 3, 4]), zeros([5]), null, null, 1, 1)).toThrow(
        /float32 bias of 4/,
      );
      expect(() => across(tokens([1, 2, 4]), tokens([1, 3, 4]), tokens([1, 3, 4]), null, null, null, 3, 1)).toThrow(
        /heads that divide 4/,
      );
    });
  });
});

test("turned off, the operators they stand for run", () => {
  tidy(() => {
    const x = randn([4, 8]);
    withFused(false, () => expect(usesFused()).toBe(false));
    const [one, other] = [true, false].map((on) => withFused(on, () => biasGelu(x, ones([8]))));
    expect(distance(one!, other!)).toBeLessThan(1e-6);
  });
});

test("arguments that do not fit are told", () => {
  tidy(() => {
    const norm = op("tessera::norm");
    const add = op("tessera::add_norm");
    const [x, w] = [randn([2, 4]), ones([4])];
    expect(() => op("tessera::bias_gelu")(x.to("float64"), null)).toThrow(/expects x as a float32 or bfloat16 tensor on the CPU/);
    expect(() => op("tessera::bias_gelu")(x, ones([3]))).toThrow(/expects bias as a float32 vector of 4/);
    expect(() => norm(x, ones([3]), w, 1e-6, false)).toThrow(/expects weight as a float32 vector of 4/);
    expect(() => norm(x.to("bfloat16"), w, w, 1e-6, false)).toThrow(OperatorError);
    expect(() => add(x, randn([2, 5]), null, null, null, w, w, 1e-6, false)).toThrow(/a branch of x's shape/);
    expect(() => add(x, x, null, null, ones([3]), w, w, 1e-6, false)).toThrow(/expects keep as a float32 vector of 2/);
  });
});

test("no numbers are no error", () => {
  tidy(() => {
    expect(biasGelu(zeros([0, 4]), null).shape).toEqual([0, 4]);
    expect(normFor(zeros([0, 4]), { weight: ones([4]), bias: ones([4]), eps: 1e-6 }).shape).toEqual([0, 4]);
  });
});

test("a second derivative is refused, not made up", () => {
  tidy(() => {
    const x = randn([2, 4]);
    x.requiresGrad = true;
    const out = withFused(true, () => biasGelu(x, null).sum());
    expect(() => grad([out], [x], { createGraph: true })).toThrow(/has no second derivatives/);
  });
});
