// Whether the operators of native/ that stand for several of libtorch's are used where they can be.
let on = process.env.TESSERA_FUSED !== "0";

/** Whether fused operators are used where they can be. Default true; the environment variable TESSERA_FUSED=0 turns them off. */
export function usesFused(): boolean {
  return on;
}

/** Runs the synchronous `fn` with fused operators on or off. */
export function withFused<R>(use: boolean, fn: () => R): R {
  const before = on;
  on = use;
  try {
    return fn();
  } finally {
    on = before;
  }
}
