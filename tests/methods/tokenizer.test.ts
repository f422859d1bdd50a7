// The d-VAE and its training against tests/reference/dvae.py, and what must hold of the loss's terms.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  gumbelNoise,
  klToUniform,
  logitLaplace,
  sampleCodes,
  TokenizerTraining,
  tokenizerOptions,
  usageKl,
} from "../../src/methods/index.js";
import { Dvae, mapPixels, tokenizerTensors } from "../../src/models/index.js";
import { AdamW, decayGroups, SGD } from "../../src/optim/index.js";
import { fromTypedArray, full, manualSeed, memoryStats, noGrad, rand, randn, type Tensor, tidy } from "../../src/torch/index.js";
import { collectGarbage } from "../garbage.js";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../reference/golden.js";
import { setWeights } from "../reference/vit-weights.js";
import { at, changed, copyOf, trainStep } from "./support.js";

type Described = [norm: number, product: number];
interface Network {
  logits: Stored;
  output: Stored;
  ids: number[][][];
  decoded: Stored;
  gradients: Record<string, Described>;
}
interface Step {
  loss: number;
  terms: Record<string, number>;
  perplexity: number;
  usedCodes: number;
  temperature: number;
  gradients: Record<string, Described>;
  averaged: Described;
}
const golden = readGolden<{ networks: Record<string, Network>; steps: Record<string, Step> }>("dvae");

const near = (given: number, expected: number, what: string, tolerance = 1e-8) =>
  expect(Math.abs(given - expected), `${what}: ${given}, expected ${expected}`).toBeLessThanOrEqual(
    tolerance * (1 + Math.abs(expected)),
  );
function expectDescribed(tensor: Tensor, [norm, product]: Described, what: string): void {
  const scale = 1e-8 * (1 + norm) * Math.sqrt(tensor.numel);
  expect(Math.abs(tensor.norm().item() - norm), `norm of ${what}`).toBeLessThan(scale);
  expect(Math.abs(tensor.mul(fill(tensor.shape, 3)).sum().item() - product), `product of ${what}`).toBeLessThan(scale);
}

const colour = { channels: 3, width: 8, decoderWidth: 12, groups: 3, blocksPerGroup: 2, vocabulary: 7, decoderInit: 6 };
const sizes: Record<string, typeof colour> = {
  "colour, three groups of two": colour,
  "grey, two groups of one": {
    channels: 1,
    width: 12,
    decoderWidth: 8,
    groups: 2,
    blocksPerGroup: 1,
    vocabulary: 5,
    decoderInit: 10,
  },
  "one group": { channels: 3, width: 8, decoderWidth: 4, groups: 1, blocksPerGroup: 1, vocabulary: 6, decoderInit: 3 },
};
/** Images in 0..1, as the reference program makes them. */
const pixels = (channels: number, seed: number) => fill([2, channels, 8, 12], seed).add(1).div(2);

describe("encoder and decoder as the reference program makes them", () => {
  test("every size of it is checked", () => {
    expect(Object.keys(sizes)).toEqual(Object.keys(golden.networks));
  });
  for (const [name, config] of Object.entries(sizes)) {
    test(`${name}: values, codes, images of codes, gradients`, () => {
      const expected = golden.networks[name]!;
      const dvae = setWeights(new Dvae(config).to("float64"));
      const images = pixels(config.channels, 4).requiresGrad_();
      const logits = dvae.encoder.call(mapPixels(images));
      expectClose(logits, expected.logits, 1e-10, "logits");
      const soft = fill(logits.shape, 5).mul(3).softmax(1).detach().requiresGrad_();
      const output = dvae.decoder!.call(soft);
      expectClose(output, expected.output, 1e-10, "output");
      const ids = dvae.encode(images);
      expect(ids.tolist()).toEqual(expected.ids);
      expectClose(dvae.decode(ids), expected.decoded, 1e-10, "decoded");
      const both = logits
        .mul(fill(logits.shape, 6))
        .sum()
        .add(output.mul(fill(output.shape, 7)).sum());
      both.backward();
      const { images: ofImages, codes, ...weights } = expected.gradients;
      expectDescribed(images.grad!, ofImages!, "images");
      expectDescribed(soft.grad!, codes!, "codes");
      expect([...dvae.stateDict().keys()].sort()).toEqual(Object.keys(weights));
      for (const [each, parameter] of dvae.namedParameters()) expectDescribed(parameter.grad!, weights[each]!, each);
    });
  }
  testRegenerates("dvae", ["torch", "numpy"]);
});

const steps: Record<string, object> = {
  "logit-laplace": {},
  "logit-laplace at its floor": {
    minLogScale: 0.1,
    temperature: { from: 1, to: 0.5, steps: 2 },
    klWeight: { from: 2, to: 2 },
  },
  "l1, straight through": {
    reconstruction: "l1",
    temperature: { from: 0.9, to: 0.9 },
    klWeight: { from: 0, to: 0 },
    straightThrough: true,
  },
  "l2, use of codes": {
    reconstruction: "l2",
    temperature: { from: 0.9, to: 0.9 },
    klWeight: { from: 0, to: 1, steps: 4 },
    usageWeight: 0.7,
  },
};
const data = { channels: 3 as const, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };
const { channels: _, ...architecture } = colour;
const make = (options: object) =>
  new TokenizerTraining(tokenizerOptions.parse({ crops: { globalSize: 8 }, ...architecture, ...options }), { data });
const batchOf = (images: Tensor) => ({ views: { image: images.unsqueeze(0) }, index: new Int32Array(images.size(0)) });

describe("a step of training as the reference program makes it", () => {
  test("every step of it is checked", () => {
    expect(Object.keys(steps)).toEqual(Object.keys(golden.steps));
  });
  for (const [name, options] of Object.entries(steps)) {
    test(`${name}: loss, terms, gradients, average`, () => {
      const expected = golden.steps[name]!;
      const method = make({ ...options, averaging: 0.9 });
      for (const each of [method.trainable, method.averaged]) setWeights(each.to("float64"));
      method.noise = (shape) => fill(shape, 9).mul(2);
      const optimizer = new SGD(decayGroups(method.trainable, method.decayRule), { lr: 0.05, weightDecay: 0, momentum: 0 });
      trainStep(method, optimizer, batchOf(pixels(3, 8)), at(3, { report: true }), ({ loss, terms, metrics }) => {
        near(loss.item(), expected.loss, "loss");
        expect(Object.keys(terms)).toEqual(Object.keys(expected.terms));
        for (const [each, term] of Object.entries(terms)) near(term.item(), expected.terms[each]!, each);
        near(metrics!.perplexity!.item(), expected.perplexity, "perplexity", 1e-6);
        near(metrics!.usedCodes!.item(), expected.usedCodes, "usedCodes", 1e-6);
        near(metrics!.temperature!.item(), expected.temperature, "temperature", 1e-6);
        for (const [each, parameter] of method.trainable.namedParameters()) {
          expectDescribed(parameter.grad!, expected.gradients[each]!, each);
        }
      });
      expectDescribed(method.averaged.stateDict().get("encoder.blocks.output.conv.w")!, expected.averaged, "average");
    });
  }
});

describe("the terms", () => {
  test("a sample lies on the simplex; straight through it is a corner, with the relaxed one's gradient", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 9 }), fc.double({ min: 0.1, max: 3, noNaN: true }), (codes, tau) =>
        tidy(() => {
          const logits = randn([2, codes, 3, 2], { dtype: "float64" }).requiresGrad_();
          const noise = gumbelNoise(logits.shape);
          const weights = randn(logits.shape, { dtype: "float64" });
          const gradients = [false, true].map((hard) => {
            const sample = sampleCodes(logits, noise, tau, hard);
            expect(sample.sum(1).sub(1).abs().amax().item()).toBeLessThan(1e-9);
            if (hard) expect(sample.amax(1).sub(1).abs().amax().item()).toBeLessThan(1e-9);
            logits.grad = null;
            sample.mul(weights).sum().backward();
            return logits.grad!.clone();
          });
          expect(gradients[0]!.sub(gradients[1]!).abs().amax().item()).toBeLessThan(1e-12);
        }),
      ),
      { numRuns: 20 },
    );
  });

  test("hard samples come as often as the encoder says", () => {
    manualSeed(1);
    const p = [0.5, 0.3, 0.15, 0.05];
    const logits = fromTypedArray(Float32Array.from(p, Math.log), [1, 4, 1]).expand([40, 4, 500]);
    const shares = sampleCodes(logits, gumbelNoise(logits.shape), 1, true).mean([0, 2]).toArray();
    for (const [i, share] of shares.entries()) expect(Math.abs(share - p[i]!)).toBeLessThan(0.015);
  });

  test("the logit-Laplace density integrates to one", () => {
    const count = 200_000;
    const x = fromTypedArray(
      Float64Array.from({ length: count }, (_, i) => (i + 0.5) / count),
      [count, 1, 1, 1],
    );
    for (const [mu, lnB] of [
      [0, 0],
      [1.2, -0.7],
      [-2, 0.2],
    ] as const) {
      // biome-ignore format: pairs
      const output = fromTypedArray(Float64Array.from([mu, lnB]), [1, 2, 1, 1]).expand([count, 2, 1, 1]);
      // One value at a time, because the loss is a mean of logarithms and not a logarithm of means.
      const density = tidy(() => {
        const [location, scale] = output.chunk(2, 1) as [Tensor, Tensor];
        const logit = x.div(x.rsub(1)).log();
        return logit
          .sub(location)
          .abs()
          .neg()
          .div(scale.exp())
          .exp()
          .div(scale.exp().mul(x).mul(x.rsub(1)).mul(2));
      });
      expect(Math.abs(density.mean().item() - 1)).toBeLessThan(1e-3);
      const mean = density.log().mean().neg().item();
      expect(Math.abs(logitLaplace(output, x, -9).item() - mean)).toBeLessThan(1e-9 * (1 + Math.abs(mean)));
    }
  });

  test("the KL terms are 0 and ln V where they should be", () => {
    const [V, sure] = [8, 60];
    const uniform = full([2, V, 2, 2], 0.3);
    for (const kl of [klToUniform, usageKl]) expect(Math.abs(kl(uniform).item())).toBeLessThan(1e-6);
    const index = (cell: number) =>
      Float32Array.from({ length: V * V }, (_, i) => (i % V === (Math.floor(i / V) + cell) % V ? sure : 0));
    // Eight cells, each sure of another code: certain by themselves, uniform together.
    const each = fromTypedArray(index(0), [1, V, V]);
    expect(Math.abs(klToUniform(each).item() - Math.log(V))).toBeLessThan(1e-5);
    expect(Math.abs(usageKl(each).item())).toBeLessThan(1e-5);
    const same = fromTypedArray(
      Float32Array.from({ length: V * V }, (_, i) => (i < V ? sure : 0)),
      [1, V, V],
    );
    expect(Math.abs(usageKl(same).item() - Math.log(V))).toBeLessThan(1e-5);
  });

  test("noise is finite where a uniform number is 0 or all but 1", () => {
    const noise = gumbelNoise([1000, 100]);
    expect(noise.isNan().any().item()).toBe(0);
    expect(Math.abs(noise.mean().item() - 0.5772)).toBeLessThan(0.02);
  });
});

describe("the method", () => {
  test("counts codes between lines of the log, and forgets them after a line", () => {
    const method = make({ averaging: 0 });
    const batch = batchOf(rand([2, 3, 8, 8]));
    tidy(() => method.step(batch, at(0)));
    method.afterStep(at(0));
    expect(method.uses.sum().item()).toBe(8);
    tidy(() => method.step(batch, at(1, { report: true })));
    expect(method.uses.sum().item()).toBe(16);
    method.afterStep(at(1, { report: true }));
    expect(method.uses.sum().item()).toBe(0);
  });

  test("without averaging exports the weights themselves, and saves them once", () => {
    const method = make({ averaging: 0 });
    expect(method.product.module).toBe(method.trainable);
    expect(method.branch).toBe("online");
    expect([...method.state().keys()].filter((name) => name.startsWith("averaged"))).toEqual([]);
    const averaged = make({ averaging: 0.9 });
    expect(averaged.product.module).toBe(averaged.averaged);
    expect(averaged.branch).toBe("average");
    const names = [...averaged.state()].map(([name, tensor]) => [`method.${name}`, tensor] as const);
    expect(tokenizerTensors(new Map(names)).get("encoder.blocks.input.b")).toBe(
      averaged.averaged.encoder.stateDict().get("blocks.input.b"),
    );
  });

  test("starts from another tokenizer's weights, the average too", () => {
    manualSeed(2);
    const [one, other] = [make({}), make({})];
    other.initEncoder(one.trainable.stateDict());
    expect(changed(other.trainable.stateDict(), copyOf(one.trainable.stateDict()))).toEqual([]);
    expect(changed(other.averaged.stateDict(), copyOf(one.trainable.stateDict()))).toEqual([]);
  });

  test("sees images in 0..1, whatever the data's normalisation", () => {
    expect([make({}).views.mean, make({}).views.std]).toEqual([[0, 0, 0], [1, 1, 1]]); // biome-ignore format: one line
  });

  test("draws images and their reconstructions", () => {
    const [picture] = noGrad(() => make({}).picture(batchOf(rand([2, 3, 8, 8]))));
    expect(picture!.name).toBe("reconstruction");
    expect(picture!.image.width).toBeGreaterThan(100);
  });

  test("refuses sizes that cells do not fill, and widths that blocks cannot quarter", () => {
    expect(() => tokenizerOptions.parse({ crops: { globalSize: 20 } })).toThrow("multiple of 2^(groups - 1)");
    expect(() => tokenizerOptions.parse({ width: 6 })).toThrow();
    expect(tokenizerOptions.parse({ crops: { globalSize: 20 }, groups: 3 }).groups).toBe(3);
  });
});

/** Discs on shaded grounds in colours by a formula, [B, 3, 16, 16] in 0..1. */
function discs(batch: number, step: number): Tensor {
  const size = 16;
  const values = new Float32Array(batch * 3 * size * size);
  for (let b = 0; b < batch; b++) {
    const part = (k: number) => ((b * 37 + step * 101 + k * 53) * 0.6180339887) % 1;
    for (let c = 0; c < 3; c++) {
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const inside = Math.hypot(x / size - 0.2 - 0.6 * part(7), y / size - 0.2 - 0.6 * part(8)) < 0.15 + 0.2 * part(9);
          values[((b * 3 + c) * size + y) * size + x] = inside ? part(c) : part(c + 3) * (0.6 + (0.4 * y) / size);
        }
      }
    }
  }
  return fromTypedArray(values, [batch, 3, size, size]);
}

describe("sixty steps on drawn discs", () => {
  const l2 = { reconstruction: "l2", straightThrough: true, usageWeight: 0.01 };
  const size = { width: 16, decoderWidth: 16, groups: 3, blocksPerGroup: 1, vocabulary: 64, decoderInit: 32 };
  for (const [name, options] of Object.entries({
    "logit-laplace": { klWeight: { from: 0, to: 6.6, steps: 20 } },
    "l2, straight through, use of codes": { ...l2, klWeight: { from: 0, to: 0.1 } },
  })) {
    test(`${name}: reconstructions get better, codes stay in use, and no handle is left behind`, () => {
      manualSeed(0);
      const method = new TokenizerTraining(
        tokenizerOptions.parse({ crops: { globalSize: 16 }, ...size, averaging: 0.9, ...options }),
        { data },
      );
      const optimizer = new AdamW(decayGroups(method.trainable, "all"), { lr: 3e-3, weightDecay: 1e-4 });
      const totalSteps = 60;
      collectGarbage();
      const history: Record<string, number>[] = [];
      const handles: number[] = [];
      for (let step = 0; step < totalSteps; step++) {
        const progress = at(step, { totalSteps, epochs: 1, epoch: 0, stepsPerEpoch: totalSteps, report: true });
        const seen = tidy(() =>
          trainStep(method, optimizer, batchOf(discs(16, step)), progress, ({ loss, terms, metrics }) =>
            Object.fromEntries(Object.entries({ loss, ...terms, ...metrics }).map(([key, each]) => [key, each.item()])),
          ),
        );
        history.push(seen);
        handles.push(memoryStats().handles);
      }
      const mean = (key: string, from: number, to?: number) => {
        const values = history.slice(from, to).map((each) => each[key]!);
        return values.reduce((a, b) => a + b, 0) / values.length;
      };
      const told = () => history.map((each) => JSON.stringify(each)).join("\n");
      for (const key of ["rec", "loss"])
        expect(mean(key, -5), told()).toBeLessThan(mean(key, 0, 3) - 0.3 * Math.abs(mean(key, 0, 3)));
      expect(mean("perplexity", -5), told()).toBeGreaterThan(5);
      expect(new Set(handles.slice(2)).size).toBe(1);
      tidy(() => {
        const images = discs(16, 0);
        const error = (made: Tensor) => made.sub(images).abs().mean().item();
        const constant = images.mean([0, 2, 3], { keepdim: true }).expand(images.shape);
        expect(error(method.averaged.call(images)), told()).toBeLessThan(0.7 * error(constant));
      });
    });
  }
});
