// The loss of a whole segmenter against tests/reference/segmentation.py.
import { describe, expect, test } from "vitest";
import { fill, readGolden } from "../../../tests/reference/golden.js";
import { setWeights } from "../../../tests/reference/vit-weights.js";
import { Segmenter, VisionTransformer } from "../../models/index.js";
import { full, randn, tensor } from "../../torch/index.js";
import { IGNORE, pixelLoss, segmentationLoss } from "./loss.js";

interface Whole {
  labels: number[];
  main: number;
  auxiliary: number;
  loss: number;
  "counting ignored": number;
  gradients: Record<string, [number, number]>;
}
const { whole } = readGolden<{ whole: Whole }>("segmentation");

describe("segmentation loss", () => {
  test("of UPerNet and its auxiliary head over a ViT: values, and the gradient of every parameter", () => {
    const encoder = new VisionTransformer({ imageSize: [12, 16], patchSize: 4, width: 8, heads: 2, depth: 4 });
    const config = { classes: 5, head: "upernet", channels: 6, auxiliaryChannels: 7, dropout: 0, levels: [0, 1, 2, 3] } as const;
    const segmenter = setWeights(new Segmenter(encoder, config).to("float64"));
    // Its dropout is the published 0.1 while training, which no reference can repeat.
    segmenter.auxiliaryHead!.eval();
    for (const [, each] of segmenter.auxiliaryHead!.namedModules()) if (each !== segmenter.auxiliaryHead) each.training = true;
    const labels = tensor(whole.labels, { dtype: "int64" }).view([2, 12, 16]);
    const segmented = segmenter.call(fill([2, 3, 12, 16], 1));
    const { loss, terms } = segmentationLoss(segmented, labels);
    expect(terms.decode!.item()).toBeCloseTo(whole.main, 10);
    expect(terms.auxiliary!.item()).toBeCloseTo(whole.auxiliary, 10);
    expect(loss.item()).toBeCloseTo(whole.loss, 10);
    expect(pixelLoss(segmented.logits, labels, "all").item()).toBeCloseTo(whole["counting ignored"], 10);
    loss.backward();
    const parameters = [...segmenter.namedParameters()].filter(([, each]) => each.grad);
    expect(parameters.map(([name]) => name).sort()).toEqual(Object.keys(whole.gradients).sort());
    for (const [name, parameter] of parameters) {
      const gradient = parameter.grad!;
      const [norm, along] = whole.gradients[name]!;
      expect(Math.abs(gradient.norm().item() - norm), name).toBeLessThan(1e-8 * (1 + norm));
      expect(Math.abs(gradient.mul(fill(gradient.shape, 3)).sum().item() - along), name).toBeLessThan(1e-8 * (1 + norm));
    }
  });

  test("images without a labelled pixel cost nothing and give no gradient that is not a number", () => {
    const logits = randn([2, 3, 4, 4]).requiresGrad_();
    const loss = pixelLoss(logits, full([2, 8, 8], IGNORE, { dtype: "int64" }));
    expect(loss.item()).toBe(0);
    loss.backward();
    expect(logits.grad!.abs().sum().item()).toBe(0);
  });
});
