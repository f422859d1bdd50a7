// Making tensors: from numbers, filled, random, and out of others.
import { aten } from "./aten.js";
import { type Device, type DType, dtypeOf, type TypedArray } from "./dtype.js";
import { ArgumentError } from "./errors.js";
import type { Generator } from "./generator.js";
import { native } from "./native.js";
import type { NestedNumbers, Tensor } from "./tensor.js";

export interface TensorOptions {
  /** Default float32. */
  dtype?: DType;
  /** Default cpu. */
  device?: Device;
  /** Default false. */
  requiresGrad?: boolean;
}

export interface RandomOptions extends TensorOptions {
  /** Default: the default generator. */
  generator?: Generator;
}

function finish(tensor: Tensor, requiresGrad: boolean | undefined): Tensor {
  return requiresGrad ? tensor.requiresGrad_() : tensor;
}

function onDevice(tensor: Tensor, device: Device | undefined): Tensor {
  if (!device || device === "cpu") return tensor;
  const moved = tensor.to(device);
  tensor.dispose();
  return moved;
}

/**
 * A tensor with the elements of a typed array: one copy. A SharedArrayBuffer may be behind it.
 *
 * @param shape default: [data.length]
 * @param options.dtype default: the array's own; give it for a Uint16Array (float16 or bfloat16 bits) and for a Uint8Array of bools
 */
export function fromTypedArray(data: TypedArray, shape?: readonly number[], options: TensorOptions = {}): Tensor {
  const natural = dtypeOf(data);
  const dtype = options.dtype ?? natural;
  if (!dtype) throw new ArgumentError("fromTypedArray: say whether a Uint16Array holds float16 or bfloat16 with { dtype }");
  const same = dtype === natural || natural === undefined || (natural === "uint8" && dtype === "bool");
  let tensor = native.fromBytes(data, shape ?? [data.length], same ? dtype : natural);
  if (!same) {
    const converted = tensor.to(dtype);
    tensor.dispose();
    tensor = converted;
  }
  return finish(onDevice(tensor, options.device), options.requiresGrad);
}

/** A tensor of a number or of nested lists of numbers (or of booleans), all rows equally long. Default dtype float32. */
export function tensor(values: NestedNumbers | boolean | readonly boolean[], options: TensorOptions = {}): Tensor {
  const shape: number[] = [];
  for (let level: unknown = values; Array.isArray(level); level = level[0]) shape.push(level.length);
  const flat: number[] = [];
  const fill = (level: unknown, depth: number): void => {
    if (depth === shape.length) {
      if (typeof level !== "number" && typeof level !== "boolean")
        throw new ArgumentError(`tensor: expected a number, got ${String(level)}`);
      flat.push(Number(level));
    } else {
      if (!Array.isArray(level) || level.length !== shape[depth]) {
        throw new ArgumentError(`tensor: rows of different lengths; expected ${shape[depth]} at depth ${depth}`);
      }
      for (const each of level) fill(each, depth + 1);
    }
  };
  fill(values, 0);
  const { dtype = "float32", ...rest } = options;
  const integers = dtype === "int64" ? BigInt64Array.from(flat, BigInt) : undefined;
  const data = integers ?? (dtype === "float32" ? Float32Array.from(flat) : Float64Array.from(flat));
  return fromTypedArray(data, shape, { ...rest, dtype });
}

/** Memory that is not initialised. */
export function empty(shape: readonly number[], { dtype = "float32", device = "cpu", requiresGrad }: TensorOptions = {}): Tensor {
  return finish(aten.empty(shape, dtype, null, device), requiresGrad);
}
export function zeros(shape: readonly number[], { dtype = "float32", device = "cpu", requiresGrad }: TensorOptions = {}): Tensor {
  return finish(aten.zeros(shape, dtype, null, device), requiresGrad);
}
export function ones(shape: readonly number[], { dtype = "float32", device = "cpu", requiresGrad }: TensorOptions = {}): Tensor {
  return finish(aten.ones(shape, dtype, null, device), requiresGrad);
}
export function full(
  shape: readonly number[],
  value: number,
  { dtype = "float32", device = "cpu", requiresGrad }: TensorOptions = {},
): Tensor {
  return finish(aten.full(shape, value, dtype, null, device), requiresGrad);
}
/** start, start + step, ... before end. Default dtype int64. */
export function arange(start: number, end: number, step = 1, { dtype = "int64", device = "cpu" }: TensorOptions = {}): Tensor {
  return aten.arange(start, end, step, dtype, null, device);
}
export function linspace(
  start: number,
  end: number,
  steps: number,
  { dtype = "float32", device = "cpu" }: TensorOptions = {},
): Tensor {
  return aten.linspace(start, end, steps, dtype, null, device);
}
export function eye(n: number, { dtype = "float32", device = "cpu" }: TensorOptions = {}): Tensor {
  return aten.eye(n, dtype, null, device);
}
/** Uniform in [0, 1). */
export function rand(shape: readonly number[], options: RandomOptions = {}): Tensor {
  const { dtype = "float32", device = "cpu", generator = null, requiresGrad } = options;
  return finish(aten.rand(shape, generator, dtype, null, device), requiresGrad);
}
/** Standard normal. */
export function randn(shape: readonly number[], options: RandomOptions = {}): Tensor {
  const { dtype = "float32", device = "cpu", generator = null, requiresGrad } = options;
  return finish(aten.randn(shape, generator, dtype, null, device), requiresGrad);
}
/** Integers in [low, high). Default dtype int64. */
export function randint(low: number, high: number, shape: readonly number[], options: RandomOptions = {}): Tensor {
  const { dtype = "int64", device = "cpu", generator = null } = options;
  return aten.randint(low, high, shape, generator, dtype, null, device);
}
/** A random order of 0 ... n - 1 (int64). */
export function randperm(n: number, { device = "cpu", generator = undefined }: RandomOptions = {}): Tensor {
  return aten.randperm(n, generator ?? null, "int64", null, device);
}
export function emptyLike(other: Tensor): Tensor {
  return aten.emptyLike(other);
}
export function zerosLike(other: Tensor): Tensor {
  return aten.zerosLike(other);
}
export function onesLike(other: Tensor): Tensor {
  return aten.onesLike(other);
}

/** Joins along an existing dimension. */
export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  return aten.cat(tensors, dim);
}
/** Joins along a new dimension. */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  return aten.stack(tensors, dim);
}
/** `a` where `condition` (bool) is true, else `b`. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  return aten.where(condition, a, b);
}
/** Grids of coordinates; `ij` indexing: the first varies along rows. */
export function meshgrid(tensors: readonly Tensor[], { indexing = "ij" }: { indexing?: "ij" | "xy" } = {}): Tensor[] {
  return aten.meshgrid(tensors, indexing);
}
/** How often each value 0 ... minLength - 1 (or the largest) occurs. */
export function bincount(tensor: Tensor, { minLength = 0 } = {}): Tensor {
  return aten.bincount(tensor, null, minLength);
}
/** Indices drawn with probabilities proportional to the rows of `weights` [..., n]: int64 [..., count]. */
export function multinomial(
  weights: Tensor,
  count: number,
  { replacement = false, generator = null }: { replacement?: boolean; generator?: Generator | null } = {},
): Tensor {
  return aten.multinomial(weights, count, replacement, generator);
}
