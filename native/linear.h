// The parts of a linear layer in bfloat16 with float32 weights that other operators are made of, too.
#pragma once

#include <ATen/ATen.h>

#include <utility>

namespace tessera {

/** Whether there is a micro-kernel for its products. */
bool hasHalfLinear();

/** Refuses what is no float32 weight [out, in] of a layer with so many inputs. */
void expectWeight(const char* op, const at::Tensor& weight, int64_t in);

/** A weight in bfloat16, which all share that hold it while the weight is not changed. */
at::Tensor halfOf(const at::Tensor& weight);

/**
 * outGrad^T rows and the sums of outGrad's columns, both in float32: [out, in] and, if `biased`, [out]. outGrad [n, out] and rows [n, in] are
 * contiguous, in bfloat16.
 */
std::pair<at::Tensor, at::Tensor> linearGradients(const at::Tensor& outGrad, const at::Tensor& rows, bool biased);

}  // namespace tessera
