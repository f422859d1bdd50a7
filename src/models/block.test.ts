// Blocks one after another.
import { describe, expect, it } from "vitest";
import { manualSeed, randn, type Tensor } from "../torch/index.js";
import { Block, throughBlocks } from "./block.js";

/** What comes out of two blocks for 5 tokens, and all gradients. */
function pass(run: (blocks: Block[], x: Tensor) => Tensor) {
  manualSeed(3);
  const blocks = [0, 1].map(() => new Block({ width: 8, heads: 2, layerScale: 0.5 }));
  const x = randn([2, 5, 8]).requiresGrad_();
  const out = run(blocks, x);
  out.backward(randn([2, 3, 8]));
  const parameters = blocks.flatMap((block) => [...block.parameters()]);
  return [out.detach(), ...[x, ...parameters].map((each) => each.grad!)];
}

describe("throughBlocks", () => {
  const whole = pass((blocks, x) => throughBlocks(blocks, x).narrow(1, 0, 3));

  for (const gradientCheckpointing of [false, true]) {
    it(`gives the first tokens what they get among all, ${gradientCheckpointing ? "computed again" : "kept"}`, () => {
      const first = pass((blocks, x) => throughBlocks(blocks, x, { gradientCheckpointing, queries: 3 }));
      expect(first.length).toBe(whole.length);
      for (const [i, each] of first.entries()) {
        expect(each.shape).toEqual(whole[i]!.shape);
        expect(each.sub(whole[i]!).abs().amax().item()).toBeLessThan(1e-5);
      }
    });
  }

  it("gives tokens as they are where there is no block", () => {
    const x = randn([2, 5, 8]);
    expect(throughBlocks([], x).equal(x)).toBe(true);
    expect(throughBlocks([], x, { queries: 3 }).equal(x.narrow(1, 0, 3))).toBe(true);
  });
});
