// Read-outs against the encoder's own outputs.
import { describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { VisionTransformer } from "../models/index.js";
import { cat, manualSeed, memoryStats, randn, type Tensor, tidy } from "../torch/index.js";
import { EvaluateError, isReadout, needsClassToken, readoutOf, readoutProblem, readoutsOf } from "./index.js";

const vit = (classToken = true) => {
  manualSeed(1);
  return new VisionTransformer({ imageSize: 8, patchSize: 4, channels: 1, width: 8, depth: 3, heads: 2, classToken }).eval();
};

describe("readoutsOf", () => {
  it("gives each read-out by its definition, of one pass", () => {
    const encoder = vit();
    const images = randn([2, 1, 8, 8]);
    tidy(() => {
      const { tokens, levels } = encoder.call(images, { levels: [0, 1, 2] });
      const classOf = (level: number): Tensor => encoder.norm.call(levels[level]!).select(1, 0);
      const mean = tokens.slice(1, 1).mean(1);
      const expected: Record<string, Tensor> = {
        class: tokens.select(1, 0),
        mean,
        "class+mean": cat([tokens.select(1, 0), mean], 1),
        "class:3": cat([classOf(0), classOf(1), classOf(2)], 1),
        "level:0+level:-1": cat([levels[0]!.slice(1, 1).mean(1), levels[2]!.slice(1, 1).mean(1)], 1),
        "class:2+mean+level:1": cat([classOf(1), classOf(2), mean, levels[1]!.slice(1, 1).mean(1)], 1),
      };
      const given = readoutsOf(encoder, Object.keys(expected))(images);
      expect(Object.keys(given)).toEqual(Object.keys(expected));
      for (const [name, value] of Object.entries(expected)) {
        expect(given[name]!.shape, name).toEqual(value.shape);
        expect(given[name]!.sub(value).abs().amax().item(), name).toBe(0);
        // Alone, the last block may be computed for the class token only.
        expect(readoutOf(encoder, name)(images).sub(value).abs().amax().item(), name).toBeLessThan(1e-5);
      }
    });
  });

  it("leaves nothing behind but what it gives", () => {
    const encoder = vit();
    const images = randn([1, 1, 8, 8]);
    const read = readoutOf(encoder, "class:3+level:0");
    tidy(() => read(images)).dispose();
    collectGarbage();
    const before = memoryStats().handles;
    const made = tidy(() => read(images));
    expect(memoryStats().handles).toBe(before + 1);
    made.dispose();
  });

  it("works without class token", () => {
    const encoder = vit(false);
    const images = randn([2, 1, 8, 8]);
    const { mean, "level:2": level } = readoutsOf(encoder, ["mean", "level:2"])(images);
    expect(mean!.shape).toEqual([2, 8]);
    expect(level!.shape).toEqual([2, 8]);
    expect(readoutProblem("class", encoder)).toBe("the encoder has no class token; expected mean or level:I");
  });
});

describe("the names", () => {
  it("are told from others", () => {
    for (const good of ["class", "mean", "class+mean", "class:4", "level:-1", "level:3+level:5 + mean"]) {
      expect(isReadout(good), good).toBe(true);
    }
    for (const bad of ["", "cls", "class:0", "class:", "level", "level:x", "mean+", "mean:2", "class:-1", "class mean"]) {
      expect(isReadout(bad), bad).toBe(false);
    }
    expect([needsClassToken("mean+level:1"), needsClassToken("mean+class:2")]).toEqual([false, true]);
  });

  it("are refused where the encoder does not have it", () => {
    const encoder = vit();
    expect(readoutProblem("class:3+level:2+level:-3", encoder)).toBeUndefined();
    expect(readoutProblem("class:4", encoder)).toBe("the encoder has 3 blocks; expected at most class:3");
    expect(readoutProblem("level:3", encoder)).toBe("the encoder has no level 3; expected 0 to 2, or -1 to -3");
    expect(readoutProblem("cls", encoder)).toMatch(/^"cls" is no read-out; expected class, mean, /);
    expect(() => readoutOf(encoder, "level:-4")).toThrow(EvaluateError);
  });
});
