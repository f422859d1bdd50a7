// The d-VAE as a tokenizer: codes and images, the same by every way, to files and back.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { ShapeError } from "../nn/index.js";
import {
  arange,
  autocast,
  manualSeed,
  memoryStats,
  noGrad,
  rand,
  randint,
  type Tensor,
  tensor,
  tidy,
  writeSafetensors,
  zeros,
} from "../torch/index.js";
import { Dvae, type DvaeConfig, loadTokenizer, mapPixels, unmapPixels, WeightsError } from "./index.js";

const small: DvaeConfig = { width: 8, decoderWidth: 12, groups: 3, blocksPerGroup: 2, vocabulary: 32, decoderInit: 6 };
const folder = mkdtempSync(join(tmpdir(), "dvae-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A tokenizer that uses many codes: the logits of a fresh one hardly depend on the image, so what they have in common is taken away. */
function lively(config: DvaeConfig, parts: { decoder?: boolean } = {}): Dvae {
  const dvae = new Dvae(config, parts);
  tidy(() =>
    noGrad(() => {
      const logits = dvae.encoder.call(mapPixels(rand([8, dvae.channels, 16, 16])));
      const state = dvae.encoder.stateDict();
      state.get("blocks.output.conv.b")!.sub_(logits.mean([0, 2, 3]));
    }),
  );
  return dvae;
}
const largest = (a: Tensor, b: Tensor) => a.sub(b).abs().amax().item();

describe("codes", () => {
  test("are the most likely ones, one for each cell of a grid that need not be square", () => {
    manualSeed(1);
    for (const channels of [1, 3]) {
      const dvae = lively({ ...small, channels });
      const images = rand([2, channels, 12, 20]);
      const ids = dvae.encode(images);
      expect([ids.dtype, ids.shape]).toEqual(["int64", [2, 3, 5]]);
      expect(ids.equal(dvae.encoder.call(mapPixels(images)).argmax(1))).toBe(true);
      expect(new Set(ids.toArray()).size).toBeGreaterThan(5);
      expect(ids.requiresGrad).toBe(false);
      expect(dvae.stride).toBe(4);
    }
  });

  test("of some cells are the same as of all", () => {
    manualSeed(2);
    const dvae = lively(small);
    const images = rand([3, 3, 16, 24]);
    const all = dvae.encode(images).flatten(1);
    const positions = tensor([[0, 23, 7], [5, 5, 11], [22, 1, 2]], { dtype: "int64" }); // biome-ignore format: rows of cells
    expect(dvae.encodeAt(images, positions).equal(all.gather(1, positions))).toBe(true);
  });

  test("of more rows than one piece of logits holds are the same", () => {
    manualSeed(3);
    const dvae = lively({ ...small, width: 4, vocabulary: 2 ** 17 }, { decoder: false });
    const images = rand([3, 3, 16, 32]);
    expect(dvae.encode(images).equal(dvae.encoder.call(mapPixels(images)).argmax(1))).toBe(true);
  });

  test("under autocast come of logits in float32", () => {
    manualSeed(4);
    const dvae = lively(small);
    const images = rand([2, 3, 16, 16]);
    autocast({}, () => {
      const mapped = mapPixels(images);
      expect(dvae.encoder.features(mapped).dtype).toBe("bfloat16");
      const logits = dvae.encoder.call(mapped);
      expect(logits.dtype).toBe("float32");
      expect(dvae.encode(images).equal(logits.argmax(1))).toBe(true);
      expect(dvae.decode(dvae.encode(images)).dtype).toBe("float32");
    });
  });

  test("make the image that their one-hot vectors make", () => {
    manualSeed(5);
    const dvae = new Dvae(small);
    const ids = randint(0, 32, [2, 3, 5]);
    const oneHot = zeros([2, 32, 3, 5]).scatter_(1, ids.unsqueeze(1), 1);
    const expected = noGrad(() => dvae.imageOf(dvae.decoder!.call(oneHot)));
    const image = dvae.decode(ids);
    expect(image.shape).toEqual([2, 3, 12, 20]);
    expect(largest(image, expected)).toBeLessThan(1e-6);
    expect(dvae.call(dvae.decode(ids)).shape).toEqual([2, 3, 12, 20]);
  });

  test("leave no handle behind", () => {
    const dvae = new Dvae(small);
    const images = rand([2, 3, 16, 16]);
    collectGarbage();
    const before = memoryStats().handles;
    tidy(() => {
      dvae.decode(dvae.encode(images));
      dvae.encodeAt(images, zeros([2, 3], { dtype: "int64" }));
      return undefined;
    });
    expect(memoryStats().handles).toBe(before);
  });
});

test("pixels are mapped to 0.1..0.9 and back, and cut where nothing was mapped to", () => {
  const pixels = tensor([0, 0.25, 1]);
  expect(mapPixels(pixels).toArray().map((each) => Number(each.toFixed(6)))).toEqual([0.1, 0.3, 0.9]); // biome-ignore format: one line
  expect(largest(unmapPixels(mapPixels(pixels)), pixels)).toBeLessThan(1e-6);
  expect(unmapPixels(tensor([0, 1])).toArray()).toEqual([0, 1]);
});

describe("input that does not fit is refused in one sentence", () => {
  const dvae = new Dvae(small);
  for (const [what, call, words] of [
    ["other channels", () => dvae.encode(rand([1, 1, 16, 16])), "[1, 1, 16, 16]; expected [B, 3, H, W]"],
    ["a size that cells do not fill", () => dvae.encode(rand([1, 3, 16, 18])), "multiples of 4"],
    ["positions of other images", () => dvae.encodeAt(rand([2, 3, 16, 16]), arange(0, 3).unsqueeze(0)), "expected int64 [2, n]"],
    ["codes without a grid", () => dvae.decode(zeros([2, 9], { dtype: "int64" })), "expected int64 [B, rows, columns]"],
  ] as const) {
    test(what, () => {
      expect(call).toThrow(ShapeError);
      expect(call).toThrow(words);
    });
  }
});

describe("files", () => {
  const path = (name: string) => join(folder, `${name}.safetensors`);
  const write = (name: string, tensors: Iterable<readonly [string, Tensor]>) => {
    writeSafetensors(path(name), new Map(tensors as Iterable<[string, Tensor]>));
    return path(name);
  };

  test("give the same tokenizer back, of any architecture, without being told which", () => {
    manualSeed(6);
    for (const config of [
      small,
      { ...small, channels: 1, groups: 2, blocksPerGroup: 1, vocabulary: 7 },
      { ...small, groups: 1 },
    ]) {
      const dvae = lively(config);
      const loaded = loadTokenizer(write("whole", dvae.stateDict()));
      expect(loaded.config).toEqual(dvae.config);
      const images = rand([2, dvae.channels, 16, 16]);
      expect(loaded.encode(images).equal(dvae.encode(images))).toBe(true);
      expect(loaded.call(images).equal(dvae.call(images))).toBe(true);
      expect(loaded.parameters().some((each) => each.requiresGrad)).toBe(false);
    }
  });

  test("may have the names of a checkpoint, or an encoder alone by the names of DALL-E's module", () => {
    const dvae = lively(small);
    const images = rand([2, 3, 16, 16]);
    const ids = dvae.encode(images);
    const checkpoint = write("checkpoint", [...dvae.stateDict("method"), ["optimizer.x", zeros([1])]]);
    expect(loadTokenizer(checkpoint).encode(images).equal(ids)).toBe(true);
    const encoder = loadTokenizer(write("encoder", dvae.encoder.stateDict()));
    expect(encoder.encode(images).equal(ids)).toBe(true);
    expect([dvae.decodes, encoder.decodes]).toEqual([true, false]);
    expect(() => encoder.decode(ids)).toThrow("loaded without a decoder");
  });

  test("that hold no tokenizer, or half of one, are refused by what is wrong", () => {
    const dvae = new Dvae(small);
    const all = [...dvae.stateDict()];
    const without = (name: string) => all.filter(([each]) => each !== name);
    const cases: [file: string, words: string][] = [
      [write("none", [["patch_embed.proj.weight", zeros([1])]]), "has no encoder.blocks.input.w"],
      [write("decoder", dvae.decoder!.stateDict()), "has no encoder.blocks.input.w"],
      [write("half", without("encoder.blocks.output.conv.w")), "it has no encoder.blocks.output.conv.w"],
      [write("bias", without("decoder.blocks.group_1.block_2.res_path.conv_1.b")), "missing: decoder.blocks.group_1.block_2"],
      [write("flat", [...without("decoder.blocks.input.w"), ["decoder.blocks.input.w", zeros([3])]]), "four dimensions"],
      [
        write("groups", [...all, ["encoder.blocks.group_40.block_1.res_path.conv_1.b", zeros([1])]]),
        "from 8 to 32 channels in 40 groups",
      ],
    ];
    for (const [file, words] of cases) {
      expect(() => loadTokenizer(file)).toThrow(WeightsError);
      expect(() => loadTokenizer(file)).toThrow(words);
    }
    expect(() => loadTokenizer(path("missing"))).toThrow("cannot be read");
  });
});
