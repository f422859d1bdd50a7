// Tensor: a handle on a libtorch tensor, with the methods people know from PyTorch, in camelCase. Each method names its operator's
// overload in aten.ts; nothing is chosen by trying. The bridge makes the instances; programs get them from the functions in create.ts.
import { aten } from "./aten.js";
import { backward } from "./autograd.js";
import { arrayFor, type Device, type DType, type TypedArray } from "./dtype.js";
import { ArgumentError } from "./errors.js";
import type { Generator } from "./generator.js";
import { native, registerTensorClass } from "./native.js";

/** Options of reductions: `dim` to reduce over (all when left out) and whether to keep it with size 1. */
export interface ReduceOptions {
  keepdim?: boolean;
}

/** A nested list of numbers, as `tolist` gives it. */
export type NestedNumbers = number | NestedNumbers[];

type Dims = number | readonly number[];
const list = (dims: Dims): readonly number[] => (typeof dims === "number" ? [dims] : dims);

export class Tensor {
  /** Set by nn.parameter and nn.buffer: what a Module makes of this tensor. */
  declare role?: "parameter" | "buffer" | "temporary";

  // ---- what it is

  /** Sizes of the dimensions. */
  get shape(): number[] {
    return native.shape(this);
  }
  get dtype(): DType {
    return native.dtype(this);
  }
  /** Where it lives: "cpu", "cuda:0". */
  get device(): Device {
    return native.device(this) as Device;
  }
  /** Number of dimensions. */
  get ndim(): number {
    return native.shape(this).length;
  }
  /** Number of elements. */
  get numel(): number {
    return native.numel(this);
  }
  /** Elements between neighbours along each dimension. */
  get strides(): number[] {
    return native.stride(this);
  }
  get isContiguous(): boolean {
    return native.isContiguous(this);
  }
  /** Size of one dimension; negative counts from the end. */
  size(dim: number): number {
    const shape = native.shape(this);
    const size = shape[dim < 0 ? dim + shape.length : dim];
    if (size === undefined) throw new ArgumentError(`size: dimension ${dim} is out of range for shape [${shape.join(", ")}]`);
    return size;
  }

  // ---- its life

  /** Frees it now. Using it afterwards throws UseAfterDisposeError. */
  dispose(): void {
    native.dispose(this);
  }
  [Symbol.dispose](): void {
    native.dispose(this);
  }
  get isDisposed(): boolean {
    return native.isDisposed(this);
  }
  /** A second handle on the same tensor, in the innermost scope. */
  alias(): Tensor {
    return native.alias(this);
  }

  // ---- gradients

  get requiresGrad(): boolean {
    return native.requiresGrad(this);
  }
  set requiresGrad(on: boolean) {
    native.setRequiresGrad(this, on);
  }
  /** As the property, returning this. */
  requiresGrad_(on = true): this {
    native.setRequiresGrad(this, on);
    return this;
  }
  /** The accumulated gradient; null where there is none. Each read is a new handle. */
  get grad(): Tensor | null {
    return native.gradOf(this);
  }
  set grad(value: Tensor | null) {
    native.setGrad(this, value);
  }
  get isLeaf(): boolean {
    return native.isLeaf(this);
  }
  /** Accumulates gradients into the leaves. `gradient` may be left out for a scalar. */
  backward(gradient?: Tensor, options: { retainGraph?: boolean; createGraph?: boolean } = {}): void {
    backward([this], gradient ? { ...options, gradients: [gradient] } : options);
  }
  /** The same data without history. */
  detach(): Tensor {
    return aten.detach(this);
  }

  // ---- numbers out

  /** The only element, as a number. */
  item(): number {
    return Number(aten.item(this));
  }
  /** All elements in row-major order: one copy. float16 and bfloat16 come as Float32Array. */
  data(): TypedArray {
    const dtype = this.dtype;
    if (dtype === "float16" || dtype === "bfloat16") {
      const wide = this.to("float32");
      const out = wide.bits();
      wide.dispose();
      return out;
    }
    return this.bits();
  }
  /** All elements as they are stored: for float16 and bfloat16 their 16 bits in a Uint16Array. */
  bits(): TypedArray {
    const out = arrayFor(this.dtype, this.numel);
    native.copyBytes(this, out);
    return out;
  }
  /** Copies all elements into memory of the caller, of exactly the same number of bytes. */
  copyInto(target: TypedArray): void {
    native.copyBytes(this, target);
  }
  /** All elements as numbers. */
  toArray(): number[] {
    return Array.from(this.data() as ArrayLike<number | bigint>, Number);
  }
  /** All elements as nested lists of numbers. */
  tolist(): NestedNumbers {
    const flat = this.toArray();
    const nest = (shape: number[], start: number): NestedNumbers => {
      if (shape.length === 0) return flat[start]!;
      const [first, ...rest] = shape as [number, ...number[]];
      const step = rest.reduce((a, b) => a * b, 1);
      return Array.from({ length: first }, (_, i) => nest(rest, start + i * step));
    };
    return nest(this.shape, 0);
  }
  toString(): string {
    if (this.isDisposed) return "Tensor(disposed)";
    const values = this.numel <= 16 ? ` ${JSON.stringify(this.tolist())}` : "";
    return `Tensor(${this.dtype}[${this.shape.join(", ")}]${values})`;
  }
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }

  // ---- type and place

  /** To another dtype or device; the same data under a new handle when nothing changes. */
  to(target: DType | Device): Tensor {
    if (target === "cpu" || target.startsWith("cuda")) return aten.toDevice(this, target, this.dtype);
    return aten.toDtype(this, target);
  }
  /** Puts another tensor's memory, dtype and device behind this handle, which keeps its place in optimisers and modules. */
  setData_(source: Tensor): this {
    aten.setData(this, source);
    return this;
  }
  float(): Tensor {
    return aten.toDtype(this, "float32");
  }
  contiguous(): Tensor {
    return aten.contiguous(this);
  }
  clone(): Tensor {
    return aten.clone(this);
  }

  // ---- arithmetic

  /** this + alpha * other */
  add(other: Tensor | number, { alpha }: { alpha?: number } = {}): Tensor {
    return typeof other === "number" ? aten.addScalar(this, other, alpha) : aten.add(this, other, alpha);
  }
  /** this - alpha * other */
  sub(other: Tensor | number, { alpha }: { alpha?: number } = {}): Tensor {
    return typeof other === "number" ? aten.subScalar(this, other, alpha) : aten.sub(this, other, alpha);
  }
  /** other - this */
  rsub(other: number): Tensor {
    return aten.rsubScalar(this, other);
  }
  mul(other: Tensor | number): Tensor {
    return typeof other === "number" ? aten.mulScalar(this, other) : aten.mul(this, other);
  }
  div(other: Tensor | number, { roundingMode }: { roundingMode?: "floor" | "trunc" } = {}): Tensor {
    if (roundingMode) {
      const mode = typeof other === "number" ? aten.floorDivideScalar : aten.floorDivide;
      return mode(this, other, roundingMode);
    }
    return typeof other === "number" ? aten.divScalar(this, other) : aten.div(this, other);
  }
  remainder(other: number): Tensor {
    return aten.remainderScalar(this, other);
  }
  pow(exponent: Tensor | number): Tensor {
    return typeof exponent === "number" ? aten.powScalar(this, exponent) : aten.pow(this, exponent);
  }
  maximum(other: Tensor): Tensor {
    return aten.maximum(this, other);
  }
  minimum(other: Tensor): Tensor {
    return aten.minimum(this, other);
  }
  lerp(end: Tensor, weight: Tensor | number): Tensor {
    return typeof weight === "number" ? aten.lerpScalar(this, end, weight) : aten.lerp(this, end, weight);
  }
  neg(): Tensor {
    return aten.neg(this);
  }
  abs(): Tensor {
    return aten.abs(this);
  }
  sign(): Tensor {
    return aten.sign(this);
  }
  exp(): Tensor {
    return aten.exp(this);
  }
  log(): Tensor {
    return aten.log(this);
  }
  log1p(): Tensor {
    return aten.log1p(this);
  }
  sqrt(): Tensor {
    return aten.sqrt(this);
  }
  rsqrt(): Tensor {
    return aten.rsqrt(this);
  }
  reciprocal(): Tensor {
    return aten.reciprocal(this);
  }
  sin(): Tensor {
    return aten.sin(this);
  }
  cos(): Tensor {
    return aten.cos(this);
  }
  tanh(): Tensor {
    return aten.tanh(this);
  }
  sigmoid(): Tensor {
    return aten.sigmoid(this);
  }
  erf(): Tensor {
    return aten.erf(this);
  }
  floor(): Tensor {
    return aten.floor(this);
  }
  ceil(): Tensor {
    return aten.ceil(this);
  }
  round(): Tensor {
    return aten.round(this);
  }
  relu(): Tensor {
    return aten.relu(this);
  }
  clamp({ min = null, max = null }: { min?: number | null; max?: number | null }): Tensor {
    return aten.clamp(this, min, max);
  }
  isFinite(): Tensor {
    return aten.isfinite(this);
  }
  isNan(): Tensor {
    return aten.isnan(this);
  }
  /** A copy with `value` where `mask` (bool) is true. */
  maskedFill(mask: Tensor, value: number): Tensor {
    return aten.maskedFill(this, mask, value);
  }

  // ---- comparison (results are bool)

  eq(other: Tensor | number): Tensor {
    return typeof other === "number" ? aten.eqScalar(this, other) : aten.eq(this, other);
  }
  ne(other: Tensor | number): Tensor {
    return typeof other === "number" ? aten.neScalar(this, other) : aten.ne(this, other);
  }
  lt(other: Tensor | number): Tensor {
    return typeof other === "number" ? aten.ltScalar(this, other) : aten.lt(this, other);
  }
  le(other: Tensor | number): Tensor {
    return typeof other === "number" ? aten.leScalar(this, other) : aten.le(this, other);
  }
  gt(other: Tensor | number): Tensor {
    return typeof other === "number" ? aten.gtScalar(this, other) : aten.gt(this, other);
  }
  ge(other: Tensor | number): Tensor {
    return typeof other === "number" ? aten.geScalar(this, other) : aten.ge(this, other);
  }
  logicalAnd(other: Tensor): Tensor {
    return aten.logicalAnd(this, other);
  }
  logicalOr(other: Tensor): Tensor {
    return aten.logicalOr(this, other);
  }
  logicalNot(): Tensor {
    return aten.logicalNot(this);
  }
  /** True when shape and every element are the same. */
  equal(other: Tensor): boolean {
    return aten.equal(this, other);
  }

  // ---- in place: each returns this very handle

  add_(other: Tensor | number, { alpha }: { alpha?: number } = {}): this {
    return (typeof other === "number" ? aten.addScalar_(this, other, alpha) : aten.add_(this, other, alpha)) as this;
  }
  sub_(other: Tensor | number, { alpha }: { alpha?: number } = {}): this {
    return (typeof other === "number" ? aten.subScalar_(this, other, alpha) : aten.sub_(this, other, alpha)) as this;
  }
  mul_(other: Tensor | number): this {
    return (typeof other === "number" ? aten.mulScalar_(this, other) : aten.mul_(this, other)) as this;
  }
  div_(other: Tensor | number): this {
    return (typeof other === "number" ? aten.divScalar_(this, other) : aten.div_(this, other)) as this;
  }
  addcmul_(a: Tensor, b: Tensor, { value }: { value?: number } = {}): this {
    return aten.addcmul_(this, a, b, value) as this;
  }
  addcdiv_(a: Tensor, b: Tensor, { value }: { value?: number } = {}): this {
    return aten.addcdiv_(this, a, b, value) as this;
  }
  lerp_(end: Tensor, weight: Tensor | number): this {
    return (typeof weight === "number" ? aten.lerpScalar_(this, end, weight) : aten.lerp_(this, end, weight)) as this;
  }
  sqrt_(): this {
    return aten.sqrt_(this) as this;
  }
  clamp_({ min = null, max = null }: { min?: number | null; max?: number | null }): this {
    return aten.clamp_(this, min, max) as this;
  }
  fill_(value: number): this {
    return aten.fill_(this, value) as this;
  }
  zero_(): this {
    return aten.zero_(this) as this;
  }
  copy_(source: Tensor): this {
    return aten.copy_(this, source) as this;
  }
  erfinv_(): this {
    return aten.erfinv_(this) as this;
  }
  maskedFill_(mask: Tensor, value: number): this {
    return aten.maskedFill_(this, mask, value) as this;
  }
  /** Uniform in [from, to). */
  uniform_(from = 0, to = 1, generator: Generator | null = null): this {
    return aten.uniform_(this, from, to, generator) as this;
  }
  normal_(mean = 0, std = 1, generator: Generator | null = null): this {
    return aten.normal_(this, mean, std, generator) as this;
  }
  /** 1 with probability p, else 0. */
  bernoulli_(p = 0.5, generator: Generator | null = null): this {
    return aten.bernoulli_(this, p, generator) as this;
  }
  scatter_(dim: number, index: Tensor, source: Tensor | number): this {
    return (
      typeof source === "number" ? aten.scatterValue_(this, dim, index, source) : aten.scatter_(this, dim, index, source)
    ) as this;
  }
  scatterAdd_(dim: number, index: Tensor, source: Tensor): this {
    return aten.scatterAdd_(this, dim, index, source) as this;
  }
  indexAdd_(dim: number, index: Tensor, source: Tensor): this {
    return aten.indexAdd_(this, dim, index, source) as this;
  }
  indexCopy_(dim: number, index: Tensor, source: Tensor): this {
    return aten.indexCopy_(this, dim, index, source) as this;
  }

  // ---- reductions

  sum(dim?: Dims, { keepdim = false }: ReduceOptions = {}): Tensor {
    return dim === undefined ? aten.sumAll(this) : aten.sum(this, list(dim), keepdim);
  }
  mean(dim?: Dims, { keepdim = false }: ReduceOptions = {}): Tensor {
    return dim === undefined ? aten.meanAll(this) : aten.mean(this, list(dim), keepdim);
  }
  /** Variance; `correction` 1 (default) divides by n - 1, 0 by n. */
  var(dim?: Dims, { keepdim = false, correction = 1 }: ReduceOptions & { correction?: number } = {}): Tensor {
    return aten.varDim(this, dim === undefined ? null : list(dim), correction, keepdim);
  }
  /** Standard deviation; `correction` as for var. */
  std(dim?: Dims, { keepdim = false, correction = 1 }: ReduceOptions & { correction?: number } = {}): Tensor {
    return aten.stdDim(this, dim === undefined ? null : list(dim), correction, keepdim);
  }
  /** Largest value over `dim` (everything when left out). */
  amax(dim?: Dims, { keepdim = false }: ReduceOptions = {}): Tensor {
    return dim === undefined ? aten.maxAll(this) : aten.amax(this, list(dim), keepdim);
  }
  amin(dim?: Dims, { keepdim = false }: ReduceOptions = {}): Tensor {
    return dim === undefined ? aten.minAll(this) : aten.amin(this, list(dim), keepdim);
  }
  /** Largest values along one dimension and where they are. */
  max(dim: number, { keepdim = false }: ReduceOptions = {}): { values: Tensor; indices: Tensor } {
    const [values, indices] = aten.maxDim(this, dim, keepdim);
    return { values, indices };
  }
  min(dim: number, { keepdim = false }: ReduceOptions = {}): { values: Tensor; indices: Tensor } {
    const [values, indices] = aten.minDim(this, dim, keepdim);
    return { values, indices };
  }
  argmax(dim?: number, { keepdim = false }: ReduceOptions = {}): Tensor {
    return aten.argmax(this, dim ?? null, keepdim);
  }
  argmin(dim?: number, { keepdim = false }: ReduceOptions = {}): Tensor {
    return aten.argmin(this, dim ?? null, keepdim);
  }
  all(): Tensor {
    return aten.all(this);
  }
  any(): Tensor {
    return aten.any(this);
  }
  /** p-norm (default 2) over `dim`, or over everything. */
  norm({ p = 2, dim, keepdim = false }: { p?: number; dim?: Dims } & ReduceOptions = {}): Tensor {
    return dim === undefined ? aten.normAll(this, p) : aten.norm(this, p, list(dim), keepdim);
  }
  logsumexp(dim: Dims, { keepdim = false }: ReduceOptions = {}): Tensor {
    return aten.logsumexp(this, list(dim), keepdim);
  }
  cumsum(dim: number): Tensor {
    return aten.cumsum(this, dim);
  }
  softmax(dim: number, { dtype = null }: { dtype?: DType | null } = {}): Tensor {
    return aten.softmax(this, dim, dtype);
  }
  logSoftmax(dim: number, { dtype = null }: { dtype?: DType | null } = {}): Tensor {
    return aten.logSoftmax(this, dim, dtype);
  }
  topk(k: number, { dim = -1, largest = true, sorted = true } = {}): { values: Tensor; indices: Tensor } {
    const [values, indices] = aten.topk(this, k, dim, largest, sorted);
    return { values, indices };
  }
  /** Stable sort. */
  sort({ dim = -1, descending = false } = {}): { values: Tensor; indices: Tensor } {
    const [values, indices] = aten.sort(this, true, dim, descending);
    return { values, indices };
  }
  /** Indices of a stable sort. */
  argsort({ dim = -1, descending = false } = {}): Tensor {
    return aten.argsort(this, true, dim, descending);
  }

  // ---- products

  matmul(other: Tensor): Tensor {
    return aten.matmul(this, other);
  }
  mm(other: Tensor): Tensor {
    return aten.mm(this, other);
  }
  bmm(other: Tensor): Tensor {
    return aten.bmm(this, other);
  }

  // ---- shape

  /** The same memory in another shape; -1 once stands for what is left. */
  view(shape: readonly number[]): Tensor {
    return aten.view(this, shape);
  }
  /** As view where the memory allows it, else a copy. */
  reshape(shape: readonly number[]): Tensor {
    return aten.reshape(this, shape);
  }
  transpose(dim0: number, dim1: number): Tensor {
    return aten.transpose(this, dim0, dim1);
  }
  /** Transpose of a matrix. */
  t(): Tensor {
    return aten.transpose(this, 0, 1);
  }
  permute(dims: readonly number[]): Tensor {
    return aten.permute(this, dims);
  }
  unsqueeze(dim: number): Tensor {
    return aten.unsqueeze(this, dim);
  }
  squeeze(dim: number): Tensor {
    return aten.squeeze(this, dim);
  }
  expand(shape: readonly number[]): Tensor {
    return aten.expand(this, shape);
  }
  flatten(startDim = 0, endDim = -1): Tensor {
    return aten.flatten(this, startDim, endDim);
  }
  unflatten(dim: number, sizes: readonly number[]): Tensor {
    return aten.unflatten(this, dim, sizes);
  }
  narrow(dim: number, start: number, length: number): Tensor {
    return aten.narrow(this, dim, start, length);
  }
  select(dim: number, index: number): Tensor {
    return aten.select(this, dim, index);
  }
  /** Elements start, start + step, ... before end of one dimension; negative counts from the end. */
  slice(dim: number, start: number | null = null, end: number | null = null, step = 1): Tensor {
    return aten.slice(this, dim, start, end, step);
  }
  /** Advanced indexing: one index Tensor (int64 or bool) a dimension, null for all of it. */
  index(indices: readonly (Tensor | null)[]): Tensor {
    return aten.index(this, indices);
  }
  indexPut_(indices: readonly (Tensor | null)[], values: Tensor, { accumulate = false } = {}): this {
    return aten.indexPut_(this, indices, values, accumulate) as this;
  }
  indexSelect(dim: number, index: Tensor): Tensor {
    return aten.indexSelect(this, dim, index);
  }
  gather(dim: number, index: Tensor): Tensor {
    return aten.gather(this, dim, index);
  }
  chunk(chunks: number, dim = 0): Tensor[] {
    return aten.chunk(this, chunks, dim);
  }
  split(size: number, dim = 0): Tensor[] {
    return aten.split(this, size, dim);
  }
  unbind(dim = 0): Tensor[] {
    return aten.unbind(this, dim);
  }
  repeat(times: readonly number[]): Tensor {
    return aten.repeat(this, times);
  }
  repeatInterleave(times: number, dim: number | null = null): Tensor {
    return aten.repeatInterleave(this, times, dim);
  }
  roll(shifts: Dims, dims: Dims): Tensor {
    return aten.roll(this, list(shifts), list(dims));
  }
  flip(dims: Dims): Tensor {
    return aten.flip(this, list(dims));
  }
  tril(diagonal = 0): Tensor {
    return aten.tril(this, diagonal);
  }
  triu(diagonal = 0): Tensor {
    return aten.triu(this, diagonal);
  }
}

registerTensorClass(Tensor);

/** True when `value` is a Tensor that the bridge made. */
export function isTensor(value: unknown): value is Tensor {
  return native.isTensor(value);
}
