// What the operators of attention share with their loops: by the micro-kernel for bfloat16 (attention_half.cpp) and by that for float32
// (attention_float.cpp).
#pragma once

#include "fused.h"

namespace tessera {

// Sizes of one attention: `queries` look at `keys`. Sums of queries come in rows of `queriesPadded`.
struct AttentionSizes {
    int64_t batch, queries, keys, heads, depth, queriesPadded;
    int64_t width() const { return heads * depth; }
};

// Queries, keys and values (or their gradients): one tensor each, or parts of one with a common bias.
struct AttentionInputs {
    at::Tensor q, k, v;
    const float *qBias = nullptr, *kBias = nullptr, *vBias = nullptr;
};

// logSums [batch heads][queriesPadded], in which padded queries have a number so large that they have no weight on any key.
struct AttentionForward {
    AttentionSizes sizes;
    AttentionInputs in;
    at::Tensor mask;
    float scale;
    at::Tensor out;
    float* logSums;
};

// `mask` is [.., .., keys, queriesPadded]. Sums of the gradients over samples and tokens go to biasGrads [threads][3][width], where it is given.
struct AttentionBackward {
    AttentionSizes sizes;
    AttentionInputs in;
    at::Tensor mask;
    float scale;
    at::Tensor out, outGrad;
    const float* logSums;
    AttentionInputs grads;
    float* biasGrads;
};

// Loops over the heads, and to what they pad tokens.
struct AttentionLoops {
    int64_t (*padded)(int64_t tokens);
    void (*forward)(const AttentionForward&);
    void (*backward)(const AttentionBackward&);
};
extern const AttentionLoops kAttentionHalf, kAttentionFloat;

// One head's part of [B, N, C], from `row` on.
inline void* headAt(const at::Tensor& t, const AttentionSizes& z, int64_t each, int64_t row) {
    const int64_t at = each / z.heads * t.stride(0) + row * t.stride(1) + each % z.heads * z.depth;
    return static_cast<char*>(t.data_ptr()) + at * t.element_size();
}
inline kernels::Rows rowsOf(const at::Tensor& t, const AttentionSizes& z, int64_t each) { return {headAt(t, z, each, 0), t.stride(1)}; }
inline kernels::RowsOut rowsInto(const at::Tensor& t, const AttentionSizes& z, int64_t each, int64_t row) { return {headAt(t, z, each, row), t.stride(1)}; }

inline const float* biasOf(const float* bias, const AttentionSizes& z, int64_t each) { return bias ? bias + each % z.heads * z.depth : nullptr; }

inline float* biasSumsOf(const AttentionBackward& a, int64_t each, int64_t part) {
    const AttentionSizes& z = a.sizes;
    return a.biasGrads ? a.biasGrads + (at::get_thread_num() * 3 + part) * z.width() + each % z.heads * z.depth : nullptr;
}

// Which of a mask's matrices, [1 or batch][1 or heads] of them, one head has.
inline int64_t matrixOf(const at::Tensor& mask, const AttentionSizes& z, int64_t each) {
    const int64_t sample = mask.size(0) == 1 ? 0 : each / z.heads, head = mask.size(1) == 1 ? 0 : each % z.heads;
    return sample * mask.size(1) + head;
}

inline const float* maskOf(const at::Tensor& mask, const AttentionSizes& z, int64_t each) {
    return mask.defined() ? floats(mask) + matrixOf(mask, z, each) * mask.size(2) * mask.size(3) : nullptr;
}

// The columns of a mask outside of which all is -inf, for blocks of its rows; all columns where there is no mask. What is outside is left out: of
// tokens that come in the order in which they see one another that is nearly half.
class Seen {
public:
    Seen(const at::Tensor& mask, int64_t columns, int64_t block);
    int64_t begin(const AttentionSizes& z, int64_t each, int64_t row) const { return ranges_.empty() ? 0 : at(z, each, row).begin; }
    int64_t end(const AttentionSizes& z, int64_t each, int64_t row) const { return ranges_.empty() ? columns_ : at(z, each, row).end; }

private:
    struct Range {
        int64_t begin, end;
    };
    void widen(Range& range, const float* row) const;
    const Range& at(const AttentionSizes& z, int64_t each, int64_t row) const { return ranges_[matrixOf(mask_, z, each) * blocks_ + row / block_]; }

    at::Tensor mask_;
    int64_t columns_, block_, blocks_ = 0;
    std::vector<Range> ranges_;
};

// Before the first of a sample's heads that a thread has (its heads are those from `begin` on), brings all rows of that sample into the cache, in
// order. Each head takes a part of every row; from part to part a processor does not guess what comes next, and waits two or three times as long.
// What will be written is read too.
void fetchRows(const AttentionForward& a, int64_t each, int64_t begin);
void fetchRows(const AttentionBackward& a, int64_t each, int64_t begin);

}  // namespace tessera
