// ViT-S/16 against timm on the same weights (tests/reference/vit_timm.py): names, outputs within 1e-5, gradients.
import { beforeAll, describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates, valuesOf } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { noGrad } from "../torch/index.js";
import { VisionTransformer, vitSizes } from "./vit.js";

const golden = readGolden<{
  names: string[];
  shapes: number[][];
  "class token": Stored;
  "every 1499th": Stored;
  sum: number;
  "sum of squares": number;
  gradients: Record<string, { squares: number; some: Stored }>;
}>("vit_timm");

describe("ViT-S/16 and timm's", () => {
  let vit: VisionTransformer;
  beforeAll(() => {
    vit = setWeights(new VisionTransformer(vitSizes.small));
  });

  test("the state dicts have the same names in the same order, and the same shapes", () => {
    const own = vit.stateDict();
    expect([...own.keys()]).toEqual(golden.names);
    expect([...own.values()].map((each) => each.shape)).toEqual(golden.shapes);
  });

  test("float32: all tokens after the final norm within 1e-5, and so the class token", () => {
    const { tokens, feature } = noGrad(() => vit.call(fill([1, 3, 224, 224], 1).float()));
    expectClose(feature.select(0, 0), golden["class token"], 1e-5, "class token");
    expectClose(tokens.reshape([-1]).slice(0, 0, undefined, 1499), golden["every 1499th"], 1e-5, "tokens");
    expect(tokens.mul(tokens).sum().item() / golden["sum of squares"]).toBeCloseTo(1, 5);
    const short = noGrad(() => vit.call(fill([1, 3, 224, 224], 1).float(), { classOnly: true }));
    expectClose(short.feature.select(0, 0), golden["class token"], 1e-5, "class token alone");
  });

  test("float64: outputs and the gradients of all parameters", () => {
    setWeights(vit.to("float64"));
    const { tokens } = vit.call(fill([1, 3, 224, 224], 1));
    expectClose(tokens.reshape([-1]).slice(0, 0, undefined, 1499), golden["every 1499th"], 1e-10, "tokens");
    expect(Math.abs(tokens.sum().item() - golden.sum)).toBeLessThan(1e-7);
    tokens.mul(fill(tokens.shape, 2)).sum().backward();
    expect([...vit.namedParameters()].map(([name]) => name)).toEqual(Object.keys(golden.gradients));
    for (const [name, parameter] of vit.namedParameters()) {
      const { squares, some } = golden.gradients[name]!;
      const gradient = parameter.grad!.reshape([-1]);
      expect(gradient.mul(gradient).sum().item() / squares, `squares of the gradient of ${name}`).toBeCloseTo(1, 8);
      const every = Math.max(1, Math.floor(gradient.numel / 2));
      const scale = Math.max(1, ...valuesOf(some).map(Math.abs));
      expectClose(gradient.slice(0, 0, undefined, every).slice(0, 0, some.shape[0]), some, 1e-9 * scale, name);
    }
    vit.zeroGrad();
  });
  testRegenerates("vit_timm", ["torch", "timm"]);
});
