// Errors: their classes, what they say, and that the engine goes on afterwards.
import { expect, test } from "vitest";
import { TesseraError } from "../errors.js";
import * as torch from "./index.js";
import {
  ArgumentError,
  EngineError,
  OperatorError,
  OutOfMemoryError,
  ops,
  SafetensorsError,
  ScopeError,
  tensor,
  tidy,
  UseAfterDisposeError,
  zeros,
} from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));

test("every class is a TesseraError with its own name", () => {
  const classes = {
    OperatorError,
    ArgumentError,
    UseAfterDisposeError,
    OutOfMemoryError,
    ScopeError,
    EngineError,
    SafetensorsError,
  };
  for (const [name, Class] of Object.entries(classes)) {
    const error = new Class("words", { cause: "a cause" });
    expect(error).toBeInstanceOf(TesseraError);
    expect([error.name, error.message, error.cause]).toEqual([name, "words", "a cause"]);
  }
});

inScope("the operator, its arguments by name with shapes and dtypes, and torch's reason", () => {
  const [x, y] = [zeros([2, 3]), zeros([4], { dtype: "int64" })];
  expect(() => x.add(y)).toThrow(OperatorError);
  expect(() => x.add(y)).toThrow(
    /^add.Tensor\(self: float32\[2, 3\], other: int64\[4\]\): The size of tensor a \(3\) must match the size of tensor b \(4\)/,
  );
  expect(() => torch.cat([x, y])).toThrow(/^cat\(tensors: \[float32\[2, 3\], int64\[4\]\], dim: 0\): /);
  expect(() => x.view([7])).toThrow(/^view\(self: float32\[2, 3\], size: \[7\]\): shape '\[7\]' is invalid/);
});

inScope("long values are cut short", () => {
  const many = Array.from({ length: 100 }, (_, i) => i);
  expect(() => zeros([2]).view(many)).toThrow(/size: \[0, 1, 2, 3, 4, 5, 6, 7, ... 100 in all\]/);
  expect(() => torch.gelu(zeros([1]), { approximate: "x".repeat(1000) as never })).toThrow(/approximate: "x{40}\.\.\."/);
});

inScope("a getter that throws is the error that comes out", () => {
  const list = [1];
  Object.defineProperty(list, 0, {
    get() {
      throw new RangeError("mine");
    },
  });
  expect(() => zeros([1]).view(list)).toThrow(new RangeError("mine"));
  const keywords = {
    get dim(): number {
      throw new RangeError("mine too");
    },
  };
  expect(() => ops.aten!.softmax!.int!(zeros([1]), keywords)).toThrow(new RangeError("mine too"));
});

inScope("a getter that calls operators and frees the argument itself", () => {
  const x = zeros([4]);
  const list = [0];
  Object.defineProperty(list, 0, {
    get() {
      x.dispose();
      return ops.aten!.add!.Scalar!(zeros([1]), 4).item();
    },
  });
  expect(x.view(list).shape).toEqual([4]);
  expect(x.isDisposed).toBe(true);
});

inScope("a giant sparse array is refused, not walked", () => {
  const giant: number[] = [];
  giant.length = 2 ** 32 - 1;
  expect(() => zeros([1]).view(giant)).toThrow(/has 4294967295 elements, at most 1048576 are taken/);
  expect(() => torch.cat(giant as never)).toThrow(ArgumentError);
});

inScope("the engine goes on after an error", () => {
  for (let i = 0; i < 100; ++i) expect(() => tensor([1]).mm(tensor([1]))).toThrow(OperatorError);
  expect(tensor([1, 2]).add(1).tolist()).toEqual([2, 3]);
});

test("what the library as a whole refuses", () => {
  expect(() => torch.loadLibrary("/nowhere/lib.so")).toThrow(/cannot load \/nowhere\/lib.so/);
  expect(() => torch.setNumThreads(0)).toThrow(/between 1 and 1024/);
  expect(() => torch.op("nonsense")()).toThrow(EngineError);
});
