import { describe, expect, it } from "vitest";
import { ConfigError } from "./issues.js";
import { applyOverrides } from "./overrides.js";

const recipe = { optimizer: { lr: 1, betas: [0.9, 0.999] }, knn: { k: [10] }, data: { train: "a" } };

function problem(...overrides: string[]): string {
  try {
    applyOverrides(recipe, overrides);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message;
  }
  throw new Error("the override was accepted");
}

describe("applyOverrides", () => {
  it("reads JSON values, and texts where it is none", () => {
    const set = (text: string) => (applyOverrides({}, [`x=${text}`]) as { x: unknown }).x;
    expect(set("1e-3")).toBe(0.001);
    expect(set("true")).toBe(true);
    expect(set("null")).toBeNull();
    expect(set("[0.4, 1]")).toEqual([0.4, 1]);
    expect(set('{"from":1}')).toEqual({ from: 1 });
    expect(set('"5"')).toBe("5");
    expect(set("folder:/a=b?split=test")).toBe("folder:/a=b?split=test");
    expect(set("")).toBe("");
    expect(set("bfloat16")).toBe("bfloat16");
  });

  it("follows paths, makes what is missing, and leaves the original alone", () => {
    const before = structuredClone(recipe);
    expect(
      applyOverrides(recipe, ["optimizer.lr=2", "knn.k.0=20", "knn.k.1=100", "train.epochs=5", "a.b.c=1", "optimizer.lr=3"]),
    ).toEqual({
      optimizer: { lr: 3, betas: [0.9, 0.999] },
      knn: { k: [20, 100] },
      data: { train: "a" },
      train: { epochs: 5 },
      a: { b: { c: 1 } },
    });
    expect(recipe).toEqual(before);
    expect(applyOverrides(recipe, [])).toEqual(recipe);
  });

  it("says why a path cannot be", () => {
    expect(problem("optimizer.lr.peak=1")).toBe(
      'the command line: --set optimizer.lr.peak=1: optimizer.lr is 1, which has no key "peak"',
    );
    expect(problem("data.train.0=x")).toContain('data.train is "a", which has no key "0"');
    expect(problem("knn.k.first=1")).toContain(
      'knn.k is a list, which has no position "first"; expected 0 to 0, or 1 to add one',
    );
    expect(problem("knn.k.5=1")).toContain('no position "5"');
    expect(problem("optimizer.lr")).toContain("expected path=value, such as optimizer.lr=1e-3");
    expect(problem("=1")).toContain("expected path=value");
    expect(problem("optimizer..lr=1")).toContain("empty key");
    expect(() => applyOverrides(7, ["a=1"])).toThrow('the recipe is 7, which has no key "a"');
  });

  it("tells all wrong ones at once", () => {
    expect(problem("nonsense", "optimizer.lr.x=1").split("\n")).toHaveLength(3);
  });

  it("does not reach prototypes", () => {
    expect(problem("__proto__.polluted=1")).toContain("a key that no recipe has");
    applyOverrides({}, ["constructor.prototype.polluted=1", "toString.x=1"]);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
    expect(Object.prototype.toString).not.toHaveProperty("x");
  });
});
