// Fixed positions against MAE's and MoCo v3's builders, resized ones against PyTorch, timm and DINO's rule.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expectClose, readGolden, type Stored } from "../../tests/reference/golden.js";
import { weightOf } from "../../tests/reference/vit-weights.js";
import { randn } from "../torch/index.js";
import { type Grid, resizePositions, sinCosPositions } from "./position.js";

const golden = readGolden<Record<"row-column" | "column-row", Stored> & { resized: Record<string, Stored> }>("vit_variants");
const timm = readGolden<{ "resampled positions": Record<string, Stored> }>("vit_timm")["resampled positions"];
const gridOf = (text: string) => text.split("x").map(Number) as unknown as Grid;

describe("sines and cosines on a 3x5 grid", () => {
  for (const order of ["row-column", "column-row"] as const) {
    test(order, () => expectClose(sinCosPositions([3, 5], 16, { order }), golden[order], 1e-7));
  }
  test("row-column is the default, and the orders differ by a transposition of the grid", () => {
    const a = sinCosPositions([3, 5], 8);
    expect(a.equal(sinCosPositions([3, 5], 8, { order: "row-column" }))).toBe(true);
    const b = sinCosPositions([5, 3], 8, { order: "column-row" });
    expect(a.equal(b.reshape([5, 3, 8]).transpose(0, 1).reshape([15, 8]))).toBe(true);
  });
  test("position 0 is sin 0 and cos 0", () => {
    expect(sinCosPositions([1, 1], 8).toArray()).toEqual([0, 0, 1, 1, 0, 0, 1, 1]);
  });
  test("a lower temperature turns slow channels faster", () => {
    const at = (temperature: number) => sinCosPositions([2, 1], 8, { temperature }).toArray()[9]!;
    expect(at(100)).toBeCloseTo(Math.sin(0.1), 6);
    expect(at(10000)).toBeCloseTo(Math.sin(0.01), 6);
  });
});

describe("resizing", () => {
  const positions = () => weightOf("pos_embed", [1, 17, 8]);
  for (const [name, expected] of Object.entries(golden.resized)) {
    const [kind, , to] = name.split(" ") as ["exact" | "dino" | "antialias", string, string];
    test(`4x4, ${name}`, () => {
      const how = kind === "antialias" ? "timm" : kind;
      expectClose(resizePositions(positions(), [4, 4], gridOf(to), 1, how), expected, 1e-12);
    });
  }
  for (const [name, expected] of Object.entries(timm)) {
    test(`timm's resample_abs_pos_embed, ${name}`, () => {
      const [from, , to] = name.replace(",", "").split(" ") as [string, string, string];
      const [old, grid] = [gridOf(from), gridOf(to)];
      const given = weightOf("pos_embed", [1, 1 + old[0] * old[1], 8]).float();
      const out = resizePositions(given, old, grid, 1, name.endsWith("antialias") ? "timm" : "exact").reshape([-1]);
      const every = Math.max(1, Math.floor(out.numel / 80));
      const values = out.toArray().filter((_, i) => i % every === 0);
      expectClose(out.slice(0, 0, undefined, every).slice(0, 0, expected.shape[0]), expected, 1e-6);
      expect(values.length).toBeGreaterThanOrEqual(expected.shape[0]!);
    });
  }
  test("the same grid gives the very same values, and the prefix stays in any case", () => {
    const grid = fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 }));
    fc.assert(
      fc.property(grid, grid, fc.integer({ min: 0, max: 2 }), fc.boolean(), (from, to, prefix, dino) => {
        const given = randn([1, prefix + from[0] * from[1], 4]);
        const semantics = dino ? "dino" : "exact";
        expect(resizePositions(given, from, from, prefix, semantics).equal(given)).toBe(true);
        const resized = resizePositions(given, from, to, prefix, semantics);
        expect(resized.shape).toEqual([1, prefix + to[0] * to[1], 4]);
        expect(resized.narrow(1, 0, prefix).equal(given.narrow(1, 0, prefix))).toBe(true);
      }),
      { numRuns: 25 },
    );
  });
  test("as many patches in another shape are resized, not taken for the same", () => {
    const given = positions();
    expect(resizePositions(given, [4, 4], [2, 8], 1).equal(given)).toBe(false);
  });
  test("both semantics agree on constants and differ on anything else", () => {
    const resized = (["exact", "dino"] as const).map((semantics) => resizePositions(positions(), [4, 4], [2, 2], 1, semantics));
    expect(resized[0]!.sub(resized[1]!).abs().amax().item()).toBeGreaterThan(0.01);
  });
  test("gradients reach the positions through both", () => {
    for (const semantics of ["exact", "dino"] as const) {
      const given = positions().requiresGrad_();
      resizePositions(given, [4, 4], [3, 3], 1, semantics).sum().backward();
      // Interpolation weights sum to 1 for each of the 9 targets, and the prefix passes through.
      expect(given.grad!.sum().item()).toBeCloseTo((9 + 1) * 8, 9);
    }
  });
});
