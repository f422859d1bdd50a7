// What products of matrices are made of, whatever their type.
#pragma once

#include "kernels.h"

namespace tessera {

/** A matrix whose rows or columns are contiguous: element (r, c) is at r * row + c * column, and one of them is 1. */
template <class T>
struct Matrix {
    const T* data;
    int64_t row, column;
};

/**
 * c [m][n] = a b + bias [n] (or null) on the micro-kernel for float32; of bfloat16 matrices, where the rows of `a` are contiguous, rounded at the end.
 * In float32 it is added to what c holds, where `add`.
 */
template <class T>
void multiplyInFloat(int64_t m, int64_t n, int64_t depth, const Matrix<T>& a, const Matrix<T>& b, T* c, bool add, const float* bias);

/** c [m][n] = a b + bias [n] (or null) on pairs of bfloat16 numbers (see Table). The rows of `a` are contiguous, and `depth` is even. */
void multiplyHalves(int64_t m, int64_t n, int64_t depth, const Matrix<kernels::Bf16>& a, const Matrix<kernels::Bf16>& b, kernels::Bf16* c, const float* bias);

}  // namespace tessera
