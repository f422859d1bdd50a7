// Rows of patches by their numbers.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { randn, type Tensor, tensor, tidy } from "../torch/index.js";
import { gatherTokens } from "./patches.js";

const numbers = (rows: readonly (readonly number[])[]) => tensor(rows as number[][], { dtype: "int64" });
const byNumber = (tokens: Tensor, index: Tensor) =>
  tokens.expand([index.size(0), -1, -1]).gather(1, index.unsqueeze(-1).expand([...index.shape, tokens.size(-1)]));

describe("gatherTokens", () => {
  it("gives the rows that are named, and gradients to them, also where one is named twice", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 5 }),
        fc.boolean(),
        fc.infiniteStream(fc.nat()),
        (batch, patches, count, same, stream) =>
          tidy(() => {
            const index = numbers(
              Array.from({ length: batch }, () => Array.from({ length: count }, () => stream.next().value % patches)),
            );
            const tokens = randn([same ? 1 : batch, patches, 3]).requiresGrad_();
            const [out, expected] = [gatherTokens(tokens, index), byNumber(tokens, index)];
            expect(out.equal(expected)).toBe(true);
            const gradient = randn(out.shape);
            const gradients = [out, expected].map((each) => {
              tokens.grad = null;
              each.backward(gradient);
              return tokens.grad!.clone();
            });
            expect(gradients[0]!.sub(gradients[1]!).abs().amax().item()).toBeLessThan(1e-5);
          }),
      ),
      { numRuns: 50 },
    );
  });

  it("takes views, and no numbers at all", () => {
    const all = randn([2, 5, 4]);
    const index = numbers([[3, 0], [1, 1]]); // biome-ignore format: short
    expect(gatherTokens(all.slice(1, 1), index).equal(byNumber(all.slice(1, 1), index))).toBe(true);
    expect(gatherTokens(all, index.narrow(1, 0, 0)).shape).toEqual([2, 0, 4]);
  });

  it("refuses a number that is none of the image's, which another image's row could stand for", () => {
    for (const [given, words] of [
      [4, "from 0 to 3, got 0 to 4"],
      [-1, "from 0 to 3, got -1 to 2"],
    ] as const) {
      expect(() => gatherTokens(randn([2, 4, 3]), numbers([[0, 2], [given, 1]])), words).toThrow(words); // biome-ignore format: short
    }
    expect(() => gatherTokens(randn([1, 4, 3]), numbers([[0, 4]]))).toThrow("from 0 to 3, got 0 to 4");
  });
});
