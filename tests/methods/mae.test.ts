// MAE: against tests/reference/mae.py, and its masks.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Mae, mae, maeOptions } from "../../src/methods/index.js";
import { patchify, unpatchify, type VisionTransformer, type VitConfig } from "../../src/models/index.js";
import { arange, fromTypedArray, manualSeed, noGrad, randn, tidy } from "../../src/torch/index.js";
import { fill, readGolden, type Stored, testRegenerates, valuesOf } from "../reference/golden.js";
import { setWeights } from "../reference/vit-weights.js";
import { at, context, tinyVit } from "./support.js";

interface Case {
  loss: number;
  gradients: Record<string, [norm: number, product: number]>;
  predicted: Stored;
  visible: number[][];
}
const golden = readGolden<{ positions: Stored; normalised: Case; raw: Case }>("mae");
const vit: VitConfig = { ...tinyVit, positions: "sin-cos", sinCos: { order: "column-row" } };
const make = (changes: object = {}) =>
  new Mae(
    maeOptions.parse({ crops: { globalSize: 16 }, decoderWidth: 12, decoderDepth: 2, decoderHeads: 3, ...changes }),
    context(vit),
  );
const batchOf = (images = fill([3, 3, 16, 16], 10)) => ({ views: { image: images.unsqueeze(0) }, index: new Int32Array(3) });

describe("a step as the reference program makes it", () => {
  for (const [name, options] of Object.entries({
    normalised: {},
    raw: { maskRatio: 0.6, normalizePatches: false },
  }) as ["normalised" | "raw", object][]) {
    test(`${name}: which patches, predictions, loss, gradients`, () => {
      const expected = golden[name];
      const method = make(options);
      method.trainable.to("float64");
      setWeights(method.encoder, "backbone.");
      setWeights(method.trainable.decoder, "decoder.");
      const { decoder } = method.trainable;
      const exact = fromTypedArray(valuesOf(golden.positions), [1, 16, 16]);
      noGrad(() => {
        (method.encoder as VisionTransformer).posEmbed.zero_().slice(1, 1).copy_(exact);
        // The same table by its formula, at the decoder's width.
        const fresh = make(options).trainable.decoder.decoderPosEmbed;
        decoder.decoderPosEmbed.copy_(fresh);
      });
      const choose = method.choose.bind(method);
      method.choose = (count, patches) => choose(count, patches, fill([3, 16], 11));
      expect(method.choose(3, 16).visible.tolist()).toEqual(expected.visible);
      const { predicted } = method.predict(fill([3, 3, 16, 16], 10), method.choose(3, 16));
      const { masked } = method.choose(3, 16);
      const wanted = fromTypedArray(valuesOf(expected.predicted), expected.predicted.shape);
      const difference = predicted
        .select(0, 1)
        .sub(wanted.indexSelect(0, masked.select(0, 1)))
        .abs()
        .amax()
        .item();
      // The decoder's own positions are float32.
      expect(difference).toBeLessThan(1e-5);
      const { loss, terms } = method.step(batchOf(), at(0));
      loss.backward();
      expect(Math.abs(loss.item() - expected.loss)).toBeLessThan(1e-6 * expected.loss);
      expect(terms.mse!.item()).toBe(loss.item());
      for (const [each, parameter] of method.trainable.namedParameters()) {
        const [norm, product] = expected.gradients[each]!;
        const gradient = parameter.grad!;
        const scale = 1e-5 * (1 + norm) * Math.sqrt(gradient.numel);
        expect(Math.abs(gradient.norm().item() - norm), each).toBeLessThan(scale);
        expect(Math.abs(gradient.mul(fill(gradient.shape, 3)).sum().item() - product), each).toBeLessThan(scale);
      }
    });
  }
  testRegenerates("mae");
});

describe("patches", () => {
  test("patchify and back is the identity, for any grid and channels", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom(1, 3),
        (rows, columns, patch, channels) =>
          tidy(() => {
            const images = randn([2, channels, rows * patch, columns * patch]);
            const patches = patchify(images, patch);
            expect(patches.shape).toEqual([2, rows * columns, patch * patch * channels]);
            expect(unpatchify(patches, [rows, columns], patch).equal(images)).toBe(true);
          }),
      ),
      { numRuns: 30 },
    );
  });

  test("each image shows and hides every patch once, as many as said, and none more often than another", () => {
    manualSeed(3);
    const method = make({ maskRatio: 0.75 });
    const counts = new Float64Array(16);
    tidy(() => {
      const { visible, masked } = method.choose(2000, 16);
      expect([visible.size(1), masked.size(1)]).toEqual([4, 12]);
      const rows = visible.tolist() as number[][];
      const hidden = masked.tolist() as number[][];
      for (const [i, row] of rows.entries()) {
        expect([...row, ...hidden[i]!].sort((a, b) => a - b)).toEqual(arange(0, 16).toArray());
        for (const patch of row) counts[patch]! += 1;
      }
    });
    for (const count of counts) expect(Math.abs(count - 500)).toBeLessThan(100);
  });

  test("a ratio that leaves nothing to see, and widths that do not fit, are refused", () => {
    const facts = { grid: [2, 2] } as never;
    expect(mae.check!(maeOptions.parse({ maskRatio: 0.9 }), facts)[0]!.path).toBe("maskRatio");
    expect(mae.check!(maeOptions.parse({ decoderWidth: 20, decoderHeads: 3 }), facts)[0]!.path).toBe("decoderWidth");
    expect(mae.check!(maeOptions.parse({}), facts)).toEqual([]);
  });
});

test("draws original, mask and reconstruction; what was seen stays as it was", () => {
  const method = make();
  const [picture] = method.picture(batchOf(fill([3, 3, 16, 16], 10).float()));
  expect(picture!.name).toBe("reconstruction");
});

test("the prediction of a masked patch does not depend on its own pixels, nor on other masked ones", () => {
  const method = make();
  method.trainable.train(false);
  const images = fill([3, 3, 16, 16], 10).float();
  const choice = method.choose(3, 16, fill([3, 16], 11));
  const changedPatches = patchify(images, 4).clone();
  changedPatches.scatter_(1, choice.masked.unsqueeze(-1).expand([3, 12, 48]), randn([3, 12, 48]));
  const other = unpatchify(changedPatches, [4, 4], 4);
  expect(method.predict(other, choice).predicted.equal(method.predict(images, choice).predicted)).toBe(true);
});
