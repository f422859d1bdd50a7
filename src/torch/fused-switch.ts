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

/** Whether products of float32 matrices are those of native/matmul.cpp, while fused operators are on: on AMD's processors with AVX-512. */
export function hasOwnProducts(): boolean {
  return native.hasOwnProducts();
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
