// The generic door: which overload it takes, told by the arguments' kinds alone, without running anything.
import { expect, test } from "vitest";
import { ArgumentError } from "./errors.js";
import { Generator, memoryStats, ops, randn, type Tensor, tensor, tidy, timeInside, zeros } from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));
const aten = ops.aten!;

inScope("Tensor or number", () => {
  const x = tensor([1, 2]);
  expect(aten.add!(x, x).tolist()).toEqual([2, 4]);
  expect(aten.add!(x, 1).tolist()).toEqual([2, 3]);
  expect(aten.add!(x, x, { alpha: 10 }).tolist()).toEqual([11, 22]);
  expect(aten.pow!(2, x).tolist()).toEqual([2, 4]);
  expect(aten.pow!(x, 2).tolist()).toEqual([1, 4]);
  expect(aten.pow!(x, x).tolist()).toEqual([1, 4]);
  expect(aten.clamp!(x, { min: 2 }).tolist()).toEqual([2, 2]);
  expect(aten.clamp!(x, { min: tensor([5, 0]) }).tolist()).toEqual([5, 2]);
});

inScope("numbers and lists of them", () => {
  const x = zeros([4, 6]);
  expect((aten.split!(x, 2) as Tensor[]).length).toBe(2);
  expect((aten.split!(x, [1, 3]) as Tensor[]).map((each) => each.shape[0])).toEqual([1, 3]);
  expect(aten.sum!(x).shape).toEqual([]);
  expect(aten.sum!(x, [1], true).shape).toEqual([4, 1]);
  expect(aten.mean!(x, { dim: [0] }).shape).toEqual([6]);
  expect((aten.max!(x, 1) as Tensor[]).map((each) => each.shape)).toEqual([[4], [4]]);
  expect(aten.max!(x).shape).toEqual([]);
  expect(aten.max!(x, x).shape).toEqual([4, 6]);
  expect(aten.softmax!(x, -1).shape).toEqual([4, 6]);
  expect(aten.arange!(3).tolist()).toEqual([0, 1, 2]);
  expect(aten.arange!(1, 3).tolist()).toEqual([1, 2]);
  expect(aten.arange!(1, 6, 2).tolist()).toEqual([1, 3, 5]);
  expect(aten.max_pool2d!(zeros([1, 4, 4]), 2).shape).toEqual([1, 2, 2]);
});

inScope("a generator, a dtype, a device", () => {
  const generator = new Generator(3);
  expect(aten.rand!([2], { generator }).equal(aten.rand!([2], { generator: new Generator(3) }))).toBe(true);
  expect(aten.to!(tensor([1.5]), "int32").tolist()).toEqual([1]);
  expect(aten.to!(tensor([1.5]), "cpu", "float64").dtype).toBe("float64");
  expect(aten.zeros!([1], { dtype: "uint8" }).dtype).toBe("uint8");
});

inScope("no overload fits: every schema is told, nothing has run", () => {
  const x = tensor([1]);
  const before = memoryStats().created;
  const { calls } = timeInside(() => {
    expect(() => aten.add!(x, "one")).toThrow(ArgumentError);
    expect(() => aten.add!(x, "one")).toThrow(
      /no overload of aten::add takes these arguments; it has:\n.*aten::add.Tensor\(Tensor self/s,
    );
    expect(() => aten.add!(x)).toThrow(ArgumentError);
    expect(() => aten.add!(x, 1, { beta: 2 })).toThrow(ArgumentError);
    expect(() => aten.add_!(x, [1])).toThrow(ArgumentError);
  });
  expect(calls).toBe(0);
  expect(memoryStats().created).toBe(before);
  expect(x.item()).toBe(1);
});

inScope("one overload by name, and its schema", () => {
  expect(aten.add!.Scalar!(tensor([1]), 2).item()).toBe(3);
  expect(aten.sum!.default!(tensor([1, 2])).item()).toBe(3);
  const { schema } = aten.conv2d!.default!;
  expect(schema.text).toMatch(/^aten::conv2d\(Tensor input, Tensor weight/);
  expect(schema.arguments.map((each) => [each.name, each.fixedLength])).toEqual([
    ["input", 0],
    ["weight", 0],
    ["bias", 0],
    ["stride", 2],
    ["padding", 2],
    ["dilation", 2],
    ["groups", 0],
  ]);
});

test("the doors may be awaited and looked at", async () => {
  expect(await ops.aten).toBeDefined();
  expect(await ops.aten!.add).toBeDefined();
  expect(() => ops.aten!.nonsense).toThrow(/has no operator aten::nonsense/);
  expect(() => ops.quantized!.add).toThrow(/quantized::add cannot be called: its namespace is internal/);
});

inScope("networks by name", () => {
  const x = randn([2, 3, 8, 8]);
  expect(aten.adaptive_avg_pool2d!(x, 1).shape).toEqual([2, 3, 1, 1]);
  expect(aten.group_norm!(x, 3).shape).toEqual([2, 3, 8, 8]);
  expect(aten.fft_rfft2!(x).dtype).toBe("complex64");
  expect((aten.linalg_svd!(randn([4, 4])) as Tensor[]).length).toBe(3);
  expect(aten.embedding!(randn([5, 2]), tensor([1, 4], { dtype: "int64" })).shape).toEqual([2, 2]);
});
