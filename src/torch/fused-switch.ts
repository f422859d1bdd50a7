// Whether the operators of native/ that stand for several of libtorch's are used where they can be.
import { native } from "./native.js";

let on = true;

/** Also for the products that stand in for libtorch's (native/matmul.cpp). */
function turn(to: boolean): void {
  on = to;
  native.useOwnProducts(to);
}

if (process.env.TESSERA_FUSED === "0") turn(false);

/** Whether fused operators are used where they can be. Default true; the environment variable TESSERA_FUSED=0 turns them off. */
export function usesFused(): boolean {
  return on;
}

/**
 * Whether products of matrices are those of native/matmul.cpp, while fused operators are on: float32 on AMD's processors with AVX-512 and where
 * libtorch has no MKL, bfloat16 on AMD's processors that multiply it, and where `widensHalves`.
 */
export function hasOwnProducts(dtype: "float32" | "bfloat16" = "float32"): boolean {
  return native.hasOwnProducts(dtype === "bfloat16");
}

/** Whether libtorch multiplies bfloat16 number by number (AVX2 and no AVX-512), so that products of matrices are made in float32. */
export function widensHalves(): boolean {
  return native.widensHalves();
}

/** Runs the synchronous `fn` with fused operators on or off. */
export function withFused<R>(use: boolean, fn: () => R): R {
  const before = on;
  turn(use);
  try {
    return fn();
  } finally {
    turn(before);
  }
}
