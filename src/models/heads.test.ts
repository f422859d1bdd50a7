// DINO's head and MST's decoder against tests/reference/dino_mst.py.
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { manualSeed, randn } from "../torch/index.js";
import { DinoHead, ImageDecoder } from "./index.js";

type Numbers = [norm: number, product: number];
interface Head {
  logits: Stored;
  gradient: Stored;
  gradients: Record<string, Numbers>;
}
interface Decoded {
  image: Stored;
  gradient: Stored;
  gradients: Record<string, Numbers>;
}
const golden = readGolden<Record<string, unknown>>("dino_mst");
const sizes = { inFeatures: 16, outFeatures: 24, hidden: 20, bottleneck: 12 };

function expectGradients(module: DinoHead | ImageDecoder, expected: Record<string, Numbers>): void {
  const parameters = new Map(module.namedParameters());
  expect([...parameters.keys()].sort()).toEqual(Object.keys(expected).sort());
  for (const [name, [norm, along]] of Object.entries(expected)) {
    const gradient = parameters.get(name)!.grad!;
    const product = gradient.mul(fill(gradient.shape, 3)).sum().item();
    expect(Math.abs(gradient.norm().item() - norm), name).toBeLessThan(1e-8 * (1 + norm));
    expect(Math.abs(product - along), name).toBeLessThan(1e-8 * (1 + norm));
  }
}

describe("DINO's head", () => {
  for (const batchNorm of [false, true]) {
    const suffix = batchNorm ? " with batch norm" : "";
    test(`names of the official checkpoints${suffix}`, () => {
      const names = [...new DinoHead({ ...sizes, batchNorm }).stateDict().keys()];
      expect(new Set(names)).toEqual(new Set(golden[`names of the head${suffix}`] as string[]));
      const layers = batchNorm ? ["mlp.0", "mlp.1", "mlp.3", "mlp.4", "mlp.6"] : ["mlp.0", "mlp.2", "mlp.4"];
      expect(new Set(names.map((name) => name.split(".").slice(0, -1).join(".")))).toEqual(new Set([...layers, "last_layer"]));
    });
    test(`values and gradients${suffix}`, () => {
      const expected = golden[`head${suffix}`] as Head;
      const head = setWeights(new DinoHead({ ...sizes, batchNorm, normLastLayer: false }).to("float64"));
      const x = fill([5, 16], 1).requiresGrad_();
      const logits = head.call(x);
      expectClose(logits, expected.logits, 1e-10, "logits");
      logits.mul(fill(logits.shape, 2)).sum().backward();
      expectClose(x.grad!, expected.gradient, 1e-9, "gradient of the features");
      expectGradients(head, expected.gradients);
    });
  }
  test("logits are cosines at the start: lengths are 1 and only directions are trained", () => {
    const head = new DinoHead(sizes);
    const logits = head.call(randn([50, 16]).mul(100));
    expect(logits.abs().amax().item()).toBeLessThanOrEqual(1 + 1e-6);
    expect(head.lastLayer.weightG.toArray()).toEqual(Array(24).fill(1));
    expect([head.lastLayer.weightG.requiresGrad, head.lastLayer.weightV.requiresGrad]).toEqual([false, true]);
    expect(new DinoHead({ ...sizes, normLastLayer: false }).lastLayer.weightG.requiresGrad).toBe(true);
  });
  test("starts from truncated normals of 0.02 without bias; the directions keep torch's default", () => {
    manualSeed(1);
    const head = new DinoHead({ inFeatures: 64, outFeatures: 256, hidden: 128, bottleneck: 64 });
    for (const [name, each] of head.mlp.namedParameters()) {
      if (name.endsWith("bias")) expect(each.abs().sum().item()).toBe(0);
      else expect(each.std().item()).toBeCloseTo(0.02, 2);
    }
    const top = head.lastLayer.weightV.abs().amax().item();
    expect(top).toBeLessThanOrEqual(1 / 8);
    expect(top).toBeGreaterThan(0.99 / 8);
  });
  test("the number of Linear layers is an option", () => {
    const widths = (layers: number) =>
      [...new DinoHead({ ...sizes, layers }).stateDict()]
        .filter(([name]) => /^mlp.*weight$/.test(name))
        .map(([, each]) => each.shape);
    expect(widths(1)).toEqual([[12, 16]]);
    expect(widths(2)).toEqual([[20, 16], [12, 20]]); // biome-ignore format: shapes
    expect(widths(4).length).toBe(4);
    expect([...new DinoHead({ ...sizes, layers: 1 }).stateDict().keys()]).toContain("mlp.weight");
  });
});

describe("image decoder", () => {
  const forms = {
    deconvolution: { form: "deconvolution", batchNorm: true },
    "deconvolution without batch norm": { form: "deconvolution", batchNorm: false },
    "sub-pixel": { form: "sub-pixel", batchNorm: true },
  } as const;
  for (const [name, form] of Object.entries(forms)) {
    test(`${name}: values and gradients`, () => {
      const expected = golden[name] as Decoded;
      const config = { inFeatures: 16, stride: 4, channels: 3, width: 12, narrowest: 4, ...form };
      const decoder = setWeights(new ImageDecoder(config).to("float64"), "decoder.");
      const x = fill([2, 6, 16], 1).requiresGrad_();
      const image = decoder.call(x, [2, 3]);
      expectClose(image.select(0, 1), expected.image, 1e-10, "image");
      image.mul(fill(image.shape, 2)).sum().backward();
      expectClose(x.grad!, expected.gradient, 1e-9, "gradient of the patches");
      expectGradients(decoder, expected.gradients);
    });
  }
  for (const form of ["deconvolution", "sub-pixel"] as const) {
    test(`${form}: any patch size and grid gives the image's size`, () => {
      for (const stride of [1, 4, 6, 7, 14, 16]) {
        const decoder = new ImageDecoder({ inFeatures: 8, stride, channels: 1, form, width: 8, narrowest: 4 });
        expect(decoder.call(randn([2, 6, 8]), [2, 3]).shape).toEqual([2, 1, 2 * stride, 3 * stride]);
      }
    });
    test(`${form}: a patch paints its own place`, () => {
      const decoder = new ImageDecoder({ inFeatures: 8, stride: 4, channels: 1, form, width: 8, narrowest: 4, batchNorm: false });
      const patches = randn([1, 100, 8]);
      const moved = patches.clone();
      moved.select(1, 37).add_(5);
      const difference = decoder
        .call(moved, [10, 10])
        .sub(decoder.call(patches, [10, 10]))
        .abs();
      const within = difference.narrow(2, 4 * 2, 4 * 3).narrow(3, 4 * 6, 4 * 3);
      expect(within.sum().item()).toBeGreaterThan(0);
      // Two patches further away nothing can reach through these layers.
      const around =
        difference.sum().item() -
        difference
          .narrow(2, 4, 4 * 5)
          .narrow(3, 4 * 5, 4 * 5)
          .sum()
          .item();
      expect(Math.abs(around)).toBeLessThan(1e-5);
    });
  }
});
