// Element types, by PyTorch's names, and the typed arrays that carry them in JavaScript.

/** Element types a Tensor can have. */
export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "uint8"
  | "int8"
  | "int16"
  | "int32"
  | "int64"
  | "bool"
  | "complex64"
  | "complex128";

/** A device: `cpu`, `cuda` or `cuda:N`. */
export type Device = "cpu" | "cuda" | `cuda:${number}`;

/** Typed arrays that can become Tensors and back. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Uint8ClampedArray
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | BigInt64Array;

/** Bytes of one element. */
export function elementSize(dtype: DType): number {
  switch (dtype) {
    case "complex128":
      return 16;
    case "float64":
    case "int64":
    case "complex64":
      return 8;
    case "float32":
    case "int32":
      return 4;
    case "float16":
    case "bfloat16":
    case "int16":
      return 2;
    default:
      return 1;
  }
}

/** The dtype whose elements a typed array holds as they are. A Uint16Array has none: say which of float16 and bfloat16 is meant. */
export function dtypeOf(array: TypedArray): DType | undefined {
  if (array instanceof Float32Array) return "float32";
  if (array instanceof Float64Array) return "float64";
  if (array instanceof Uint8Array || array instanceof Uint8ClampedArray) return "uint8";
  if (array instanceof Int8Array) return "int8";
  if (array instanceof Int16Array) return "int16";
  if (array instanceof Int32Array) return "int32";
  if (array instanceof BigInt64Array) return "int64";
  return undefined;
}

/** An uninitialised typed array for `count` elements of `dtype`: raw bits (Uint16Array) for the two 16-bit floating-point types. */
export function arrayFor(dtype: DType, count: number): TypedArray {
  switch (dtype) {
    case "float32":
      return new Float32Array(count);
    case "complex64":
      return new Float32Array(2 * count);
    case "float64":
      return new Float64Array(count);
    case "complex128":
      return new Float64Array(2 * count);
    case "int64":
      return new BigInt64Array(count);
    case "int32":
      return new Int32Array(count);
    case "int16":
      return new Int16Array(count);
    case "int8":
      return new Int8Array(count);
    case "float16":
    case "bfloat16":
      return new Uint16Array(count);
    default:
      return new Uint8Array(count);
  }
}

/** True for floating-point dtypes. */
export function isFloatingPoint(dtype: DType): boolean {
  return dtype === "float32" || dtype === "float64" || dtype === "float16" || dtype === "bfloat16";
}
