// Operators over lists of tensors that only optimisers need, beside those of torch's `foreach`.
import { op, optionalOp, type Tensor } from "../torch/index.js";

type Tensors = readonly Tensor[];

const addList = op<Tensor[]>("_foreach_add.List");
const divScalarList_ = op<void>("_foreach_div_.ScalarList");
const mulList_ = op<void>("_foreach_mul_.List");
const mulTensor_ = optionalOp<void>("_foreach_mul_.Tensor");

/** self + alpha * other, as new tensors. */
export function addLists(self: Tensors, other: Tensors, alpha = 1): Tensor[] {
  return addList(self, other, alpha);
}

/** Divides each tensor by a number of its own, in place. */
export function divEach_(self: Tensors, values: readonly number[]): void {
  divScalarList_(self, values);
}

/** Multiplies each tensor by a zero-dimensional tensor of its own, in place. */
export function scaleEach_(self: Tensors, factors: Tensors): void {
  if (self.length > 0) mulList_(self, factors);
}

/** Multiplies all tensors by one zero-dimensional tensor, in place and without reading it. */
export function scaleAll_(self: Tensors, factor: Tensor): void {
  if (mulTensor_.available) mulTensor_(self, factor);
  else
    mulList_(
      self,
      self.map(() => factor),
    );
}
