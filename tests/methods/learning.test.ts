// Each method learns: a tiny ViT, images with shapes drawn here, real optimiser steps, and the loss goes down.
import { describe, expect, test } from "vitest";
import type { Batch } from "../../src/data/index.js";
import type { Method } from "../../src/methods/index.js";
import {
  Cae,
  caeOptions,
  Dino,
  dinoOptions,
  Mae,
  MocoV3,
  Mst,
  maeOptions,
  meanEntropy,
  mocoV3Options,
  mstOptions,
  Randsac,
  Repre,
  randsacOptions,
  repreOptions,
} from "../../src/methods/index.js";
import { AdamW, clipGradNormPerTensor, decayGroups } from "../../src/optim/index.js";
import { fromTypedArray, manualSeed, memoryStats, tidy } from "../../src/torch/index.js";
import { collectGarbage } from "../garbage.js";
import { type Draw, numbers, shape } from "./shapes.js";
import { at, context } from "./support.js";

/** A random crop of an image, flipped or not, normalised to about [-2, 2]. */
function crop(draw: Draw, size: number, low: number, high: number, next: () => number, out: Float32Array, offset: number): void {
  const side = Math.sqrt(low + (high - low) * next());
  const [left, top, flip] = [next() * (1 - side), next() * (1 - side), next() < 0.5];
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const x = left + (side * ((flip ? size - 1 - column : column) + 0.5)) / size;
      const pixel = draw(x, top + (side * (row + 0.5)) / size);
      for (let c = 0; c < 3; c++) out[offset + (c * size + row) * size + column] = (pixel[c]! - 0.5) / 0.25;
    }
  }
}

const images = 16;
function batchOf(step: number): Batch {
  const next = numbers(1000 + step);
  const group = (count: number, size: number, low: number, high: number) => {
    const data = new Float32Array(count * images * 3 * size * size);
    for (let view = 0; view < count; view++) {
      for (let i = 0; i < images; i++) crop(shape(i), size, low, high, next, data, (view * images + i) * 3 * size * size);
    }
    return fromTypedArray(data, [count, images, 3, size, size]);
  };
  return {
    views: { global: group(2, 16, 0.4, 1), local: group(2, 8, 0.1, 0.4), image: group(1, 16, 0.4, 1) },
    index: Int32Array.from({ length: images }, (_, i) => i),
  };
}

const dino = {
  crops: { globalSize: 16, localSize: 8, locals: 2 },
  // Batch norm keeps so small a model from giving every image the same prototype.
  head: { outFeatures: 64, hidden: 64, bottleneck: 32, batchNorm: true },
  momentum: 0.99,
  freezeLastLayer: 0,
};
const vit = { imageSize: 16, patchSize: 4, width: 32, depth: 2, heads: 2 };
const moco = { crops: { globalSize: 16 }, hidden: 64, outFeatures: 32, momentum: 0.99 };
const fusion = { levels: 2, decoderWidth: 32 };
const fixedVit = { ...vit, positions: "sin-cos", init: "moco-v3" } as const;
/** 4 x 4 patches of 4 px in windows of 2, then 2 x 2 of 8 px. */
const swin = { name: "swin", imageSize: 16, patchSize: 4, embedDim: 16, depths: [2, 1], heads: [1, 2], windowSize: 2 } as const;
const makers: Record<string, () => Method> = {
  dino: () => new Dino(dinoOptions.parse(dino), context(vit)),
  "mst, attention-guided": () => new Mst(mstOptions.parse({ dino, num: 2, decoderWidth: 32 }), context(vit)),
  "mst, random mask, sub-pixel decoder": () =>
    new Mst(mstOptions.parse({ dino, mask: "random", p: 0.15, decoderWidth: 32, decoderForm: "sub-pixel" }), context(vit)),
  "moco-v3": () => new MocoV3(mocoV3Options.parse(moco), context(fixedVit, 16)),
  "repre over dino": () => new Repre(repreOptions.parse({ framework: { name: "dino", ...dino }, ...fusion }), context(vit)),
  "repre over moco-v3, sub-pixel": () =>
    new Repre(
      repreOptions.parse({ framework: { name: "moco-v3", ...moco }, ...fusion, decoderForm: "sub-pixel" }),
      context(fixedVit, 16),
    ),
  "cae, pixels": () =>
    new Cae(
      caeOptions.parse({ crops: { globalSize: 16 }, decoderHeads: 2, decoderDropPath: 0 }),
      context({ ...vit, positions: "sin-cos", init: "cae", layerScale: 0.1, keyBias: false }),
    ),
  ...Object.fromEntries(
    Object.entries({ square: { kind: "square", side: 2 }, blob: { kind: "blob", count: 5, partitions: [2] } }).map(
      ([name, segments]) => [
        `randsac, ${name}`,
        () =>
          new Randsac(
            randsacOptions.parse({ crops: { globalSize: 16 }, segments, decoderDepth: 2, decoderHeads: 2 }),
            context({ ...vit, positions: "sin-cos", init: "mae", classToken: false }),
          ),
      ],
    ),
  ),
  mae: () =>
    new Mae(
      maeOptions.parse({ crops: { globalSize: 16 }, decoderWidth: 32, decoderDepth: 1, decoderHeads: 2 }),
      context({ ...vit, positions: "sin-cos", init: "mae" }),
    ),
  "dino on Swin": () => new Dino(dinoOptions.parse(dino), context(swin)),
  "mst on Swin": () => new Mst(mstOptions.parse({ dino, num: 2, decoderWidth: 32 }), context(swin)),
  "moco-v3 on Swin": () => new MocoV3(mocoV3Options.parse(moco), context(swin, 16)),
  "repre over dino on Swin": () =>
    new Repre(repreOptions.parse({ framework: { name: "dino", ...dino }, ...fusion }), context(swin)),
  "repre over moco-v3 on Swin": () =>
    new Repre(repreOptions.parse({ framework: { name: "moco-v3", ...moco }, ...fusion }), context(swin, 16)),
  "mst without decoder": () => new Mst(mstOptions.parse({ dino, decoder: "off" }), context(vit)),
};

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** What a prototype tells of the image, in nats: 0 after any collapse, whose loss can be low too. */
function information(method: Dino): number {
  return tidy(() => {
    const { distribution } = method.teach(batchOf(99), at(0));
    return meanEntropy(distribution.mean([0, 1]))
      .sub(meanEntropy(distribution))
      .item();
  });
}

describe("thirty steps on drawn shapes", () => {
  for (const [name, make] of Object.entries(makers)) {
    test(`${name}: every loss term goes down, and no handle is left behind`, () => {
      collectGarbage();
      manualSeed(0);
      const method = make();
      const optimizer = new AdamW(decayGroups(method.trainable, "no-bias-norm"), { lr: 1e-3, weightDecay: 0.04 });
      const totalSteps = 30;
      const history: Record<string, number>[] = [];
      const handles: number[] = [];
      for (let step = 0; step < totalSteps; step++) {
        tidy(() => {
          const progress = at(step, { totalSteps, epoch: 0, epochs: 1, stepsPerEpoch: totalSteps, report: true });
          const { loss, terms, metrics } = method.step(batchOf(step), progress);
          loss.backward();
          clipGradNormPerTensor(optimizer.parameters, 3);
          method.beforeUpdate?.(progress);
          optimizer.step();
          optimizer.zeroGrad();
          method.afterStep(progress);
          history.push(
            Object.fromEntries(Object.entries({ loss, ...terms, ...metrics }).map(([key, each]) => [key, each.item()])),
          );
        });
        handles.push(memoryStats().handles);
      }
      for (const numbersOfStep of history) {
        for (const [key, value] of Object.entries(numbersOfStep)) expect(Number.isFinite(value), key).toBe(true);
      }
      const terms = ["loss", "kl", "ctr", "restore", "rec", "mse", "align"].filter((each) => each in history[0]!);
      for (const term of terms) {
        const values = history.map((each) => each[term]!);
        expect(mean(values.slice(-5)), `${term}: ${values.map((each) => each.toFixed(3)).join(" ")}`).toBeLessThan(
          mean(values.slice(0, 3)),
        );
      }
      expect(new Set(handles.slice(2)).size, `handles: ${handles.join(" ")}`).toBe(1);
      const framework = method instanceof Mst ? method.dino : method instanceof Repre ? method.framework : method;
      if (framework instanceof Dino) expect(information(framework)).toBeGreaterThan(0.5);
      else if ("accuracy" in history[0]!) expect(mean(history.slice(-5).map((each) => each.accuracy!))).toBeGreaterThan(0.5);
    });
  }
});
