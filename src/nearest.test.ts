import { describe, expect, it } from "vitest";
import { editDistance, nearest } from "./nearest.js";

describe("editDistance", () => {
  it.each([
    ["", "", 0],
    ["", "abc", 3],
    ["kitten", "sitting", 3],
    ["form", "from", 1],
    ["abc", "abc", 0],
    ["globall", "global", 1],
  ])("%s -> %s is %d", (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
    expect(editDistance(b, a)).toBe(distance);
  });
});

describe("nearest", () => {
  const keys = ["lr", "lrScaling", "warmupEpochs", "batchSize"];
  it("finds typos, other spellings and other words", () => {
    expect(nearest("warmup_epochs", keys)).toBe("warmupEpochs");
    expect(nearest("batchsize", keys)).toBe("batchSize");
    expect(nearest("lrscalin", keys)).toBe("lrScaling");
    expect(nearest("leaning_rate", keys, { learningRate: "lr" })).toBe("lr");
  });
  it("finds nothing for what is far from all", () => {
    expect(nearest("pictures", keys)).toBeUndefined();
    expect(nearest("m", ["k"])).toBeUndefined();
    expect(nearest("learningRate", ["width"], { learningRate: "lr" })).toBeUndefined();
    expect(nearest("x", [])).toBeUndefined();
  });
});
