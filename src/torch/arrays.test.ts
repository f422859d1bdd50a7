// Numbers in and out: typed arrays of each dtype, over shared memory too, of no elements and of the wrong size.
import { expect, test } from "vitest";
import { ArgumentError } from "./errors.js";
import { arrayFor, type DType, empty, fromTypedArray, ops, type TypedArray, tensor, tidy, zeros } from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));

const samples: [DType, TypedArray, number[]][] = [
  ["float32", Float32Array.of(1.5, -0, 3e38), [1.5, -0, Math.fround(3e38)]],
  ["float64", Float64Array.of(1.1, -2, 1e300), [1.1, -2, 1e300]],
  ["float16", Uint16Array.of(0x3c00, 0xc000, 0x7bff), [1, -2, 65504]],
  ["bfloat16", Uint16Array.of(0x3f80, 0xc000, 0x7f7f), [1, -2, 3.3895313892515355e38]],
  ["uint8", Uint8Array.of(0, 1, 255), [0, 1, 255]],
  ["int8", Int8Array.of(-128, 0, 127), [-128, 0, 127]],
  ["int16", Int16Array.of(-32768, 0, 32767), [-32768, 0, 32767]],
  ["int32", Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1), [-(2 ** 31), 0, 2 ** 31 - 1]],
  ["int64", BigInt64Array.of(-(2n ** 53n), 0n, 5n), [-(2 ** 53), 0, 5]],
  ["bool", Uint8Array.of(0, 1, 1), [0, 1, 1]],
];

for (const [dtype, data, numbers] of samples) {
  inScope(`${dtype}: in, out, and out into memory of one's own`, () => {
    const x = fromTypedArray(data, [3], { dtype });
    expect(x.dtype).toBe(dtype);
    expect(x.toArray()).toEqual(numbers);
    expect(x.bits()).toEqual(data);
    const target = arrayFor(dtype, 3);
    x.copyInto(target);
    expect(target).toEqual(data);
  });

  inScope(`${dtype}: a view of shared memory`, () => {
    const buffer = new SharedArrayBuffer(data.byteLength + 16);
    const Kind = data.constructor as new (buffer: SharedArrayBuffer, offset: number, length: number) => TypedArray;
    const shared = new Kind(buffer, 8, 3);
    shared.set(data as never);
    const x = fromTypedArray(shared, [3], { dtype });
    new Uint8Array(buffer).fill(0);
    expect(x.toArray()).toEqual(numbers);
    x.copyInto(shared);
    expect(Array.from(shared as ArrayLike<unknown>)).toEqual(Array.from(data as ArrayLike<unknown>));
  });

  inScope(`${dtype}: no elements`, () => {
    const x = fromTypedArray(arrayFor(dtype, 0), [2, 0, 3], { dtype });
    expect([x.shape, x.numel, x.toArray()]).toEqual([[2, 0, 3], 0, []]);
    x.copyInto(arrayFor(dtype, 0));
  });

  inScope(`${dtype}: the wrong number of bytes`, () => {
    expect(() => fromTypedArray(data, [4], { dtype })).toThrow(ArgumentError);
    expect(() => fromTypedArray(data, [4], { dtype })).toThrow(/shape \[4\] of \w+ needs \d+ bytes, the data has \d+/);
    expect(() => zeros([3], { dtype }).copyInto(arrayFor(dtype, 2))).toThrow(/the tensor has \d+ bytes, the target \d+/);
  });
}

inScope("one copy: the memory is torch's own afterwards", () => {
  const data = Float32Array.of(1, 2);
  const x = fromTypedArray(data);
  data[0] = 9;
  expect(x.toArray()).toEqual([1, 2]);
  const out = x.data();
  x.zero_();
  expect(Array.from(out as Float32Array)).toEqual([1, 2]);
});

inScope("a dtype of another kind converts", () => {
  expect(fromTypedArray(Float64Array.of(1.5), [1], { dtype: "float32" }).dtype).toBe("float32");
  expect(fromTypedArray(Uint8Array.of(3), [1], { dtype: "int64" }).toArray()).toEqual([3]);
  expect(() => fromTypedArray(Uint16Array.of(1))).toThrow(/say whether a Uint16Array holds float16 or bfloat16/);
});

inScope("what is read out does not depend on how it lies in memory", () => {
  const x = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  expect(x.t().toArray()).toEqual([1, 4, 2, 5, 3, 6]);
  expect(x.slice(1, 1, 3).toArray()).toEqual([2, 3, 5, 6]);
  expect(x.expand([2, 2, 3]).toArray()).toEqual([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
  const z = ops.aten!.conj!(ops.aten!.complex!(tensor([1]), tensor([2])));
  expect(Array.from(z.bits())).toEqual([1, -2]);
  expect(x.requiresGrad_().mul(2).toArray()).toEqual([2, 4, 6, 8, 10, 12]);
});

inScope("shapes that are none", () => {
  const data = new Float32Array(4);
  for (const shape of [[-1, -4], [2.5, 2], [2 ** 53], [2 ** 40, 2 ** 40], [2 ** 62], ["2", 2], [null]]) {
    expect(() => fromTypedArray(data, shape as number[])).toThrow(ArgumentError);
  }
  expect(() => fromTypedArray(data, "4" as never)).toThrow(/shape must be an array of integers/);
  expect(() => fromTypedArray(new DataView(new ArrayBuffer(4)) as never, [1], { dtype: "float32" })).toThrow(ArgumentError);
  expect(() => fromTypedArray([1, 2] as never, [2], { dtype: "float32" })).toThrow(/data must be a typed array/);
});

inScope("a getter that detaches the data while the shape is read", () => {
  const data = new Float32Array(1024);
  const shape = [0];
  Object.defineProperty(shape, 0, {
    get() {
      structuredClone(data.buffer, { transfer: [data.buffer] });
      return 1024;
    },
  });
  expect(() => fromTypedArray(data, shape, { dtype: "float32" })).toThrow(/needs 4096 bytes, the data has 0/);
});

inScope("nested lists", () => {
  expect(tensor(3).shape).toEqual([]);
  expect(tensor([[true], [false]] as never, { dtype: "bool" }).tolist()).toEqual([[1], [0]]);
  expect(tensor([2 ** 40], { dtype: "int64" }).item()).toBe(2 ** 40);
  expect(() => tensor([[1], [1, 2]])).toThrow(/rows of different lengths/);
  expect(() => tensor(["1"] as never)).toThrow(/expected a number/);
  expect(empty([0]).tolist()).toEqual([]);
  expect(String(tensor([1, 2]))).toBe("Tensor(float32[2] [1,2])");
});
