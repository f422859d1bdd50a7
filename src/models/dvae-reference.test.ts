// Values and gradients of the d-VAE's encoder and decoder against tests/reference/dvae.py, in float64.
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { tensor } from "../torch/index.js";
import { Dvae, type DvaeConfig, mapPixels } from "./index.js";

interface Case {
  logits: Stored;
  output: Stored;
  image: Stored;
  codes: number[][][];
  ids: number[][][];
  decoded: Stored;
  pixels: Stored;
  gradients: Record<string, [norm: number, product: number]>;
}
const golden = readGolden<Record<string, Case>>("dvae");
const configs: Record<string, [config: DvaeConfig, height: number, width: number]> = {
  colour: [{ width: 8, decoderWidth: 12, groups: 3, blocksPerGroup: 2, vocabulary: 10, decoderInit: 6 }, 8, 12],
  grey: [{ channels: 1, width: 4, decoderWidth: 8, groups: 2, blocksPerGroup: 1, vocabulary: 11, decoderInit: 8 }, 6, 8],
};

for (const [name, [config, height, width]] of Object.entries(configs)) {
  describe(name, () => {
    const expected = golden[name]!;
    const make = () => {
      const dvae = setWeights(new Dvae(config).to("float64"));
      const images = fill([2, dvae.channels, height, width], 5).mul(4);
      return { dvae, images };
    };

    test("logits, what the decoder makes of soft codes, and every gradient", () => {
      const { dvae, images } = make();
      images.requiresGrad = true;
      const logits = dvae.encoder.call(mapPixels(images));
      expectClose(logits, expected.logits, 1e-9, "logits");
      const output = dvae.decoder!.call(logits.softmax(1));
      expectClose(output, expected.output, 1e-9, "output");
      expect(dvae.imageOf(output).dtype).toBe("float32");
      expectClose(dvae.imageOf(output), expected.image, 1e-6, "image");
      const sum = logits
        .mul(fill(logits.shape, 6))
        .sum()
        .add(output.mul(fill(output.shape, 7)).sum());
      sum.backward();
      expectClose(images.grad!, expected.pixels, 1e-9, "pixels");
      const names = [...dvae.namedParameters()].map(([each]) => each);
      expect(names.sort()).toEqual(Object.keys(expected.gradients).sort());
      for (const [each, parameter] of dvae.namedParameters()) {
        const [norm, product] = expected.gradients[each]!;
        const gradient = parameter.grad!;
        expect(Math.abs(gradient.norm().item() - norm), each).toBeLessThan(1e-8 * (1 + norm));
        expect(Math.abs(gradient.mul(fill(gradient.shape, 3)).sum().item() - product), each).toBeLessThan(1e-8 * (1 + norm));
      }
    });

    test("codes, and the image of codes", () => {
      const { dvae, images } = make();
      expect(dvae.encode(images).tolist()).toEqual(expected.codes);
      expectClose(dvae.decode(tensor(expected.ids, { dtype: "int64" })), expected.decoded, 1e-6, "decoded");
    });
  });
}

testRegenerates("dvae");
