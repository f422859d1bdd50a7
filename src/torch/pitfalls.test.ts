// What goes wrong when libtorch's dispatcher is called from a language with one kind of number. Each case was seen once; here it stays
// caught, with a sentence that helps, and without libtorch being asked.
import { expect, test } from "vitest";
import { ArgumentError, OperatorError, OutOfMemoryError } from "./errors.js";
import { EngineError, empty, hasOp, noGrad, op, ops, type Tensor, tensor, tidy, zeros } from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));
const aten = ops.aten!;

/** The error that `fn` throws. */
function thrown(fn: () => unknown): Error & { cause?: Error } {
  try {
    fn();
  } catch (error) {
    return error as Error & { cause?: Error };
  }
  throw new Error("nothing was thrown");
}

inScope("a whole number where the schema wants a float", () => {
  expect(aten.dropout!(tensor([1, 2]), 0, true).tolist()).toEqual([1, 2]);
  expect(aten.dropout!(tensor([1, 2]), 1, true).tolist()).toEqual([0, 0]);
});

inScope("a fraction where the schema wants an int", () => {
  const error = thrown(() => aten.softmax!.int!(tensor([1, 2]), 0.5));
  expect(error).toBeInstanceOf(ArgumentError);
  expect(error.message).toBe("softmax.int: argument 'dim' (int) expects an integer, got 0.5");
});

inScope("one int for int[2]", () => {
  const x = zeros([1, 1, 4, 4]);
  const weight = zeros([1, 1, 2, 2]);
  expect(aten.conv2d!.default!(x, weight, null, 2).shape).toEqual([1, 1, 2, 2]);
  expect(aten.conv2d!.default!(x, weight, { stride: 2, padding: 1 }).shape).toEqual([1, 1, 3, 3]);
  expect(aten.max_pool2d!(x, 2).shape).toEqual([1, 1, 2, 2]);
});

inScope("an int for int[] without a length", () => {
  expect(() => aten.permute!(zeros([2, 2]), 1)).toThrow(ArgumentError);
  expect(() => op("permute")(zeros([2, 2]), 1)).toThrow(/'dims' .* expects an array of integers, got 1/);
});

inScope("Tensors for Tensor?[]", () => {
  const x = tensor([
    [1, 2],
    [3, 4],
  ]);
  const rows = tensor([1], { dtype: "int64" });
  expect(aten.index!.Tensor!(x, [rows]).tolist()).toEqual([[3, 4]]);
  expect(aten.index!.Tensor!(x, [null, rows]).tolist()).toEqual([[2], [4]]);
});

inScope("names for devices, dtypes, layouts and memory formats", () => {
  const made = aten.zeros!([2], { dtype: "int32", device: "cpu", layout: "strided" });
  expect([made.dtype, made.device]).toEqual(["int32", "cpu"]);
  expect(aten.clone!(zeros([1, 2, 3, 3]), { memory_format: "channelsLast" }).strides).toEqual([18, 1, 6, 2]);
  expect(() => aten.zeros!.default!([2], { dtype: "float31" })).toThrow(
    /'dtype' \(ScalarType\?\) expects the name of a dtype, got "float31"/,
  );
  expect(() => aten.zeros!.default!([2], { dtype: 6 })).toThrow(ArgumentError);
  expect(() => aten.zeros!.default!([2], { device: "abacus" })).toThrow(/unknown device "abacus"/);
  expect(() => aten.zeros!.default!([2], { device: "meta" })).toThrow(/unknown device "meta"/);
  expect(() => aten.zeros!.default!([2], { layout: "sparse" })).toThrow(/expects "strided"/);
  expect(() => aten.softmax!.int!(zeros([2]), "float32")).toThrow(/expects an integer/);
});

inScope("too few arguments", () => {
  const error = thrown(() => op("softmax.int")(zeros([2])));
  expect(error).toBeInstanceOf(ArgumentError);
  expect(error.message).toBe("softmax.int: argument 'dim' (int) is missing");
});

inScope("too many arguments", () => {
  expect(() => op("neg")(zeros([2]), 1)).toThrow(/^neg takes 1 arguments, got 2$/);
});

inScope("an unknown keyword", () => {
  expect(() => aten.softmax!.int!(zeros([2]), { dim: 0, dimension: 1 })).toThrow(
    /softmax.int has no argument 'dimension'; it has: self, dim, dtype/,
  );
  expect(() => aten.softmax!.int!(zeros([2]), 0, { dim: 0 })).toThrow(/'dim' twice/);
});

inScope("torch's words: the first line as the message, everything as the cause", () => {
  const error = thrown(() => zeros([2, 3]).matmul(zeros([4, 5])));
  expect(error).toBeInstanceOf(OperatorError);
  expect(error.message.split("\n")).toHaveLength(1);
  expect(error.message).toMatch(
    /^matmul\(self: float32\[2, 3\], other: float32\[4, 5\]\): mat1 and mat2 shapes cannot be multiplied/,
  );
  expect(error.cause!.message.length).toBeGreaterThan(error.message.length);
});

inScope("an operator without an overload of that name", () => {
  expect(hasOp("add")).toBe(false);
  expect(hasOp("add.Tensor")).toBe(true);
  expect(() => op("add")(zeros([2]), 1)).toThrow(EngineError);
  expect(() => aten.add!.Tensors).toThrow(/aten::add has no overload "Tensors"; it has: .*Tensor/);
  expect(() => aten.ad).toThrow(/has no operator aten::ad/);
  expect(aten.add!(zeros([2]), 1).tolist()).toEqual([1, 1]);
});

inScope("variants that write into out=", () => {
  expect(hasOp("mm.out")).toBe(false);
  const error = thrown(() => op("mm.out")(zeros([2, 2]), zeros([2, 2]), zeros([2, 2])));
  expect(error).toBeInstanceOf(EngineError);
  expect(error.message).toMatch(/^mm.out cannot be called: .*out=/);
});

inScope("changing a leaf that requires gradients in place", () => {
  const leaf = zeros([2], { requiresGrad: true });
  expect(() => leaf.add_(1)).toThrow(/a leaf Variable that requires grad/);
  noGrad(() => leaf.add_(1));
  expect(leaf.tolist()).toEqual([1, 1]);
});

inScope("operators of the JIT only", () => {
  expect(hasOp("backward")).toBe(false);
  expect(hasOp("to.prim_Device")).toBe(false);
});

inScope("more memory than there is", () => {
  const error = thrown(() => empty([2 ** 20, 2 ** 20, 16]));
  expect(error).toBeInstanceOf(OutOfMemoryError);
  expect(error.message).toMatch(/not enough memory: 70368744177664 bytes were asked for/);
  expect(() => empty([2 ** 40, 2 ** 40])).toThrow(OperatorError);
  expect(zeros([2]).tolist()).toEqual([0, 0]);
});

inScope("repeats that are negative", () => {
  const repeats = tensor([2, -1, 1], { dtype: "int64" });
  const error = thrown(() => aten.repeat_interleave!.self_Tensor!(zeros([3]), repeats));
  expect(error.message).toMatch(/repeats.*must not be negative/);
});

inScope("a sorter that points outside", () => {
  const sequence = tensor([3, 1, 2]);
  const search = (order: number[]) =>
    aten.searchsorted!.Tensor!(sequence, tensor([1.5, 9]), { sorter: tensor(order, { dtype: "int64" }) }) as Tensor;
  expect(search([1, 2, 0]).tolist()).toEqual([1, 3]);
  expect(() => search([1, 2, 3])).toThrow(/sorter.*must hold indices of 0 to 2/);
  expect(() => search([1, -2, 0])).toThrow(/sorter.*must hold indices of 0 to 2/);
});
