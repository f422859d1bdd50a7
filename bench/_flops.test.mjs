import { describe, expect, it } from "vitest";
import { conv2d, convTranspose2d, profile, randn, tidy } from "../dist/torch/index.js";
import { countedOperators, flopsOf, totalFlops } from "./_flops.mjs";

const counted = (fn) => totalFlops(profile(() => tidy(fn), { shapesOf: countedOperators }).operators);

describe("operations of a step", () => {
  it("are two for each multiplication and addition of a product", () => {
    expect(
      flopsOf("aten::mm", [
        [3, 5],
        [5, 7],
      ]),
    ).toBe(2 * 3 * 5 * 7);
    expect(flopsOf("aten::addmm", [[7], [3, 5], [5, 7], null, null])).toBe(2 * 3 * 5 * 7);
    expect(
      flopsOf("aten::bmm", [
        [4, 3, 5],
        [4, 5, 7],
      ]),
    ).toBe(4 * 2 * 3 * 5 * 7);
  });

  it("are those of every position of a convolution's kernel", () => {
    const forward = [[2, 3, 32, 32], [8, 3, 4, 4], [8], [4, 4], [0, 0], [1, 1], false, [0, 0], 1];
    expect(flopsOf("aten::convolution", forward)).toBe(2 * 2 * 64 * (8 * 3 * 16));
    const transposed = [[2, 8, 5, 5], [8, 3, 4, 4], null, [2, 2], [1, 1], [1, 1], true, [0, 0], 1];
    expect(flopsOf("aten::convolution", transposed)).toBe(2 * 2 * 25 * (8 * 3 * 16));
    const backward = [
      [2, 8, 8, 8],
      [2, 3, 32, 32],
      [8, 3, 4, 4],
      [8],
      [4, 4],
      [0, 0],
      [1, 1],
      false,
      [0, 0],
      1,
      [false, true, true],
    ];
    expect(flopsOf("aten::convolution_backward", backward)).toBe(2 * 2 * 64 * (8 * 3 * 16));
  });

  it("are those of explicit attention where attention is one operator", () => {
    const [q, k] = [
      [2, 3, 10, 4],
      [2, 3, 20, 4],
    ];
    const products =
      2 *
      flopsOf("aten::bmm", [
        [6, 10, 4],
        [6, 4, 20],
      ]);
    expect(flopsOf("aten::_scaled_dot_product_flash_attention_for_cpu", [q, k, k])).toBe(products);
    expect(flopsOf("aten::_scaled_dot_product_flash_attention_for_cpu_backward", [q, q, k, k])).toBe(2.5 * products);
  });

  it("have no rule for other operators", () => {
    expect(() => flopsOf("aten::add", [[1], [1]])).toThrow(/no rule .* aten::add/);
  });

  it("are counted once by a profile, backward's too", () => {
    const one = 2 * 3 * 5 * 7;
    const product = () =>
      randn([3, 5])
        .requiresGrad_()
        .matmul(randn([5, 7]).requiresGrad_());
    expect(counted(product)).toBe(one);
    expect(counted(() => product().sum().backward())).toBe(3 * one);
    const image = () => randn([2, 3, 8, 8]).requiresGrad_();
    const [weight, up] = [randn([4, 3, 2, 2]).requiresGrad_(), randn([3, 4, 2, 2]).requiresGrad_()];
    const each = 2 * 2 * 16 * (4 * 3 * 4);
    expect(counted(() => conv2d(image(), weight, { stride: 2 }).sum().backward())).toBe(3 * each);
    expect(counted(() => convTranspose2d(image(), up, { stride: 2 }).sum().backward())).toBe(3 * 4 * each);
  });
});
