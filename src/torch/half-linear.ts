// When a linear layer is computed in bfloat16 from float32 weights by the addon's own operator.
import { aten } from "./aten.js";
import { autocastDType } from "./autocast.js";
import { usesFused } from "./fused-switch.js";
import type { Tensor } from "./tensor.js";

/**
 * Where autocast would round a float32 weight that is trained: native/linear.cpp has a faster gradient for it, and lets all passes share the
 * rounded weight, those without gradient too.
 */
export function trainsInHalf(x: Tensor, weight: Tensor, bias: Tensor | null): boolean {
  if (autocastDType() !== "bfloat16" || !usesFused() || !aten.halfLinear.available) return false;
  const fits = (each: Tensor) => each.device === "cpu" && each.dtype === "float32";
  return weight.requiresGrad && weight.ndim === 2 && fits(weight) && (!bias || fits(bias)) && (x.dtype === "bfloat16" || fits(x));
}
