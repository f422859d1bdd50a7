// Conversions by schema, kind by kind: what is taken, what is refused, and what comes back.
import { expect, test } from "vitest";
import { ArgumentError } from "./errors.js";
import { Generator, hasOp, isTensor, type OpArgument, op, ops, randn, type Tensor, tensor, tidy, zeros } from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));
const aten = ops.aten!;
const nothing = [undefined, null, true, "a", [], {}, Symbol("s"), () => 0] as unknown as OpArgument[];

/** Every value but those of the wanted kinds is refused with a sentence that names the argument. */
function refuses(call: (value: OpArgument) => unknown, argument: string, values: readonly OpArgument[]): void {
  for (const value of values) {
    const name = new RegExp(`argument '${argument}'|has no argument`);
    expect(() => call(value), String(typeof value)).toThrow(ArgumentError);
    expect(() => call(value), String(typeof value)).toThrow(name);
  }
}

inScope("Tensor", () => {
  const add = op("add.Tensor");
  expect(add(tensor([1]), tensor([2])).tolist()).toEqual([3]);
  refuses((value) => add(value, tensor([1])), "self", nothing);
  refuses((value) => add(tensor([1]), value), "other", [...nothing, new Generator(), 5n]);
});

inScope("a number for a Tensor takes no part in type promotion", () => {
  const add = op("add.Tensor");
  expect(add(tensor([1], { dtype: "int32" }), 2).dtype).toBe("int32");
  expect(add(tensor([1], { dtype: "int32" }), 2.5).dtype).toBe("float32");
  expect(add(tensor([1], { dtype: "bfloat16" }), 2.5).dtype).toBe("bfloat16");
  expect(Object.is(op("mul.Tensor")(tensor([1]), -0).item(), -0)).toBe(true);
});

inScope("Tensor?", () => {
  const linear = op("linear");
  const x = tensor([[1, 2]]);
  const weight = tensor([[3, 4]]);
  expect(linear(x, weight).tolist()).toEqual([[11]]);
  expect(linear(x, weight, null).tolist()).toEqual([[11]]);
  expect(linear(x, weight, undefined).tolist()).toEqual([[11]]);
  expect(linear(x, weight, tensor([1])).tolist()).toEqual([[12]]);
  refuses((value) => linear(x, weight, value), "bias", nothing.slice(2));
});

inScope("Tensor[]", () => {
  const cat = op("cat");
  expect(cat([tensor([1]), tensor([2])]).tolist()).toEqual([1, 2]);
  refuses((value) => cat(value), "tensors", [undefined, null, tensor([1]), 1, "a"]);
  refuses((value) => cat([tensor([1]), value]), "tensors", [undefined, null, "a", [tensor([1])]]);
});

inScope("Tensor?[]", () => {
  const index = op("index.Tensor");
  const x = tensor([
    [1, 2],
    [3, 4],
  ]);
  const one = tensor([1], { dtype: "int64" });
  expect(index(x, [one, null]).tolist()).toEqual([[3, 4]]);
  expect(index(x, [one, one]).tolist()).toEqual([4]);
  refuses((value) => index(x, value), "indices", [undefined, null, one, 1]);
  refuses((value) => index(x, [value]), "indices", [undefined, "a", [one]]);
});

inScope("Scalar", () => {
  const fill = op("full_like");
  expect(fill(zeros([1]), 2).item()).toBe(2);
  expect(fill(zeros([1]), 2.5).item()).toBe(2.5);
  expect(fill(zeros([1]), true).item()).toBe(1);
  expect(fill(zeros([1], { dtype: "int64" }), 7n).item()).toBe(7);
  expect(fill(zeros([1], { dtype: "float64" }), 2 ** 60).item()).toBe(2 ** 60);
  expect(fill(zeros([1]), Number.NaN).item()).toBeNaN();
  expect(Object.is(fill(zeros([1]), -0).item(), -0)).toBe(true);
  refuses((value) => fill(zeros([1]), value), "fill_value", [undefined, null, "a", [], tensor([1]), 2n ** 70n]);
});

inScope("Scalar? and Scalar[]", () => {
  const clamp = op("clamp");
  expect(clamp(tensor([-1, 5]), 0, null).tolist()).toEqual([0, 5]);
  expect(clamp(tensor([-1, 5]), undefined, 1).tolist()).toEqual([-1, 1]);
  refuses((value) => clamp(tensor([1]), value, 1), "min", ["a", [], {} as OpArgument]);
  const xs = [tensor([1]), tensor([2])];
  op("_foreach_mul_.ScalarList")(xs, [10, 0.5]);
  expect(xs.map((each) => each.item())).toEqual([10, 1]);
  refuses((value) => op("_foreach_mul_.ScalarList")(xs, value), "scalars", [undefined, null, 1, ["a", 1]]);
});

inScope("int and SymInt", () => {
  const select = op("select.int");
  const x = tensor([10, 20]);
  expect(select(x, 0, 1).item()).toBe(20);
  expect(select(x, 0, -1n).item()).toBe(20);
  const wrong = [1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, -(2 ** 60), 2n ** 63n, "1", true, null, [], tensor([1])];
  refuses((value) => select(x, 0, value), "index", wrong);
});

inScope("int?", () => {
  const argmax = op("argmax");
  expect(argmax(tensor([1, 5])).item()).toBe(1);
  expect(argmax(tensor([1, 5]), null).item()).toBe(1);
  expect(argmax(tensor([[1, 5]]), 0).tolist()).toEqual([0, 0]);
  refuses((value) => argmax(tensor([1]), value), "dim", [0.5, "0", true, []]);
});

inScope("int[], int[]? and SymInt[]", () => {
  expect(zeros([2, 3]).view([3, 2]).shape).toEqual([3, 2]);
  expect(op("view")(zeros([4]), [2n, 2]).shape).toEqual([2, 2]);
  expect(op("sum.dim_IntList")(zeros([2, 3]), null).shape).toEqual([]);
  refuses((value) => op("view")(zeros([4]), value), "size", [undefined, null, 4, "4", [1.5], ["4"], [[4]], [null], [2 ** 53]]);
});

inScope("int[N] has N elements, or one that stands for all, or as few as its default", () => {
  const x = zeros([1, 1, 4, 4]);
  const pad = op("reflection_pad2d");
  expect(pad(x, [1, 1, 2, 0]).shape).toEqual([1, 1, 6, 6]);
  expect(pad(x, [1]).shape).toEqual([1, 1, 6, 6]);
  refuses((value) => pad(x, value), "padding", [[], [1, 1], [1, 1, 1, 1, 1]]);
  expect(op("max_pool2d")(x, [2], []).shape).toEqual([1, 1, 2, 2]);
  expect(op("sum.dim_IntList")(x, [0, 1, 2]).shape).toEqual([4]);
});

inScope("lists of tensors for one operator have one length", () => {
  const two = [zeros([1]), zeros([1])];
  expect(() => op("_foreach_add_.List")(two, [zeros([1])])).toThrow(/'other' has 1 elements, 'self' has 2/);
  if (!hasOp("_fused_adamw_")) return;
  const step = (gradients: Tensor[], steps = [zeros([]), zeros([])]) =>
    op<void>("_fused_adamw_")(two, gradients, two, two, [], steps, 0.1, 0.9, 0.9, 0, 1e-8, false, false);
  expect(() => step([zeros([1])])).toThrow(/'grads' has 1 tensors, 'self' has 2/);
  expect(() => step([zeros([1]), zeros([2])])).toThrow(
    /'grads' expects floating-point tensors of the dtype, shape and strides of 'self', which differ at 1/,
  );
  expect(() => step([zeros([1]), zeros([1], { dtype: "float64" })])).toThrow(ArgumentError);
  expect(() => step([zeros([1]), zeros([1])], [zeros([2]), zeros([1])])).toThrow(/float32 tensors of one element/);
  step([zeros([1]), zeros([1])]);
});

inScope("float and float?", () => {
  const dropout = op("dropout");
  expect(dropout(tensor([1]), 0, true).item()).toBe(1);
  refuses((value) => dropout(tensor([1]), value, true), "p", [undefined, null, "0.5", 1n, true, []]);
  expect(op("nan_to_num")(tensor([Number.NaN]), 3).item()).toBe(3);
  expect(op("nan_to_num")(tensor([Number.NaN]), null).item()).toBe(0);
});

inScope("bool and bool?", () => {
  const sum = op("sum.dim_IntList");
  expect(sum(zeros([2, 3]), [1], true).shape).toEqual([2, 1]);
  refuses((value) => sum(zeros([2, 3]), [1], value), "keepdim", [null, 0, 1, "true", []]);
});

inScope("str", () => {
  const gelu = op("gelu");
  expect(gelu(tensor([0]), "tanh").item()).toBe(0);
  refuses((value) => gelu(tensor([0]), value), "approximate", [null, 1, true, []]);
  expect(() => gelu(tensor([0]), "lone \ud800 surrogate")).toThrow(/approximate/);
});

inScope("Generator?", () => {
  const rand = op("rand.generator");
  const draw = () => rand([3], new Generator(7)).tolist();
  expect(draw()).toEqual(draw());
  expect(rand([3], null).shape).toEqual([3]);
  refuses((value) => rand([3], value), "generator", [1, "g", tensor([1]), {} as OpArgument]);
});

inScope("defaults, and keywords in any order", () => {
  const x = randn([4, 3]);
  const a = aten.var!.correction!(x, { keepdim: true, correction: 0, dim: [1] });
  const b = aten.var!.correction!(x, [1], { correction: 0, keepdim: true });
  expect(a.equal(b)).toBe(true);
  expect(a.shape).toEqual([4, 1]);
  expect(aten.softmax!.int!({ dim: 0, self: tensor([1, 1]) }).tolist()).toEqual([0.5, 0.5]);
  expect(op("add.Tensor")(tensor([1]), tensor([1]), undefined).item()).toBe(2);
});

inScope("what comes back: a Tensor, a list, a tuple, numbers, nothing", () => {
  expect(isTensor(aten.neg!(tensor([1])))).toBe(true);
  const parts = aten.split!.Tensor!(tensor([1, 2, 3]), 2) as Tensor[];
  expect(parts.map((each) => each.tolist())).toEqual([[1, 2], [3]]);
  const tuple = aten.native_layer_norm!(randn([2, 4]), [4], null, null, 1e-5) as Tensor[];
  expect(tuple.map((each) => each.shape)).toEqual([
    [2, 4],
    [2, 1],
    [2, 1],
  ]);
  expect(aten.item!(tensor([1.5]))).toBe(1.5);
  expect(aten.item!(tensor([3], { dtype: "int64" }))).toBe(3);
  expect(aten.item!(tensor([1], { dtype: "bool" }))).toBe(true);
  expect(aten.equal!(tensor([1]), tensor([1]))).toBe(true);
  expect(aten._foreach_zero_!([tensor([1])])).toBeUndefined();
});

inScope("an int64 beyond 2^53 comes back as a bigint", () => {
  const big = aten.full!([1], 2n ** 62n, { dtype: "int64" });
  expect(aten.item!(big)).toBe(2n ** 62n);
  expect(aten.item!(big.neg())).toBe(-(2n ** 62n));
});

inScope("a complex scalar comes back as its parts", () => {
  const z = aten.complex!(tensor([1]), tensor([-2]));
  expect(aten.item!(z)).toEqual({ re: 1, im: -2 });
});

inScope("operators in place return the very handle they were given", () => {
  const x = tensor([1, 2]);
  expect(x.add_(1)).toBe(x);
  expect(aten.mul_!.Scalar!(x, 2)).toBe(x);
  expect(aten.clamp_!({ self: x, min: 5 })).toBe(x);
  expect(x.tolist()).toEqual([5, 6]);
  expect(x.view([2])).not.toBe(x);
});
