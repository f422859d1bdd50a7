// The door of the engine: tensors, operators, scopes, autograd and what surrounds them.
export * from "./autocast.js";
export * from "./autograd.js";
export * from "./create.js";
export { arrayFor, type Device, type DType, dtypeOf, elementSize, isFloatingPoint, type TypedArray } from "./dtype.js";
export * from "./errors.js";
export { foreach, fusedAdamW } from "./foreach.js";
export * from "./functional.js";
export * from "./fused.js";
export * from "./fused-switch.js";
export * from "./generator.js";
export type { AllocatorStats, MemoryStats, OpArgument, Schema, VersionInfo } from "./native.js";
export { declaredOperators, hasOp, namedOp, op, optionalOp } from "./op.js";
export { ops } from "./ops.js";
export * from "./profile.js";
export * from "./runtime.js";
export * from "./safetensors.js";
export * from "./scope.js";
export { isTensor, type NestedNumbers, type ReduceOptions, Tensor } from "./tensor.js";
