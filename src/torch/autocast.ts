// Mixed precision by the dispatcher's autocast: matrix products run in the lower precision, reductions and losses stay in float32.
import type { Device } from "./dtype.js";
import { native } from "./native.js";

export interface AutocastOptions {
  /** Default cpu. */
  device?: Device;
  /** Default bfloat16. */
  dtype?: "bfloat16" | "float16";
  /** Default true; false turns autocast off inside an autocast region. */
  enabled?: boolean;
}

/** What autocast computes in on the CPU now. */
let cpuDType: "bfloat16" | "float16" | null = null;

/** Runs the synchronous `fn` under autocast. Casts of weights are kept until the outermost region ends. */
export function autocast<R>(options: AutocastOptions, fn: () => R): R {
  const { device = "cpu", dtype = "bfloat16", enabled = true } = options;
  const [wasEnabled, previous] = native.autocastEnter(device, enabled, dtype);
  const before = cpuDType;
  if (device === "cpu") cpuDType = enabled ? dtype : null;
  try {
    return fn();
  } finally {
    cpuDType = before;
    native.autocastExit(device, wasEnabled, previous);
  }
}

/** True inside an autocast region of that device. */
export function isAutocastEnabled(device: Device = "cpu"): boolean {
  return native.autocastEnabled(device);
}

/** The dtype that matrix products on the CPU are done in where it is not their arguments': null outside autocast. */
export function autocastDType(): "bfloat16" | "float16" | null {
  return cpuDType;
}
