// What attention reads of its mask and of its tokens, and in which order.
#include "attention.h"

#include <c10/util/SmallVector.h>

#include <limits>

namespace tessera {

using at::Tensor;

Seen::Seen(const Tensor& mask, int64_t columns, int64_t block) : mask_(mask), columns_(columns), block_(block) {
    if (!mask.defined()) return;
    const int64_t matrices = mask.size(0) * mask.size(1), rows = mask.size(2), stride = mask.stride(2);
    blocks_ = (rows + block - 1) / block;
    ranges_.resize(matrices * blocks_, {columns - 1, 1});  // at least one column, of either kind
    at::parallel_for(0, matrices, 1, [&](int64_t from, int64_t to) {
        for (int64_t row = from * rows; row < to * rows; ++row) widen(ranges_[row / rows * blocks_ + row % rows / block], floats(mask) + row * stride);
    });
}

void Seen::widen(Range& range, const float* row) const {
    constexpr float hidden = -std::numeric_limits<float>::infinity();
    range.begin = std::find_if(row, row + range.begin, [](float x) { return x != hidden; }) - row;
    for (int64_t c = columns_; c > range.end; --c)
        if (row[c - 1] != hidden) range.end = c;
}

namespace {

void fetchSample(std::initializer_list<const Tensor*> all, int64_t sample) {
    constexpr int64_t line = 64;
    struct Piece {
        const char* data;
        int64_t stride, width, rows;
    };
    c10::SmallVector<Piece, 8> pieces;
    int64_t rows = 0;
    for (const Tensor* t : all) {
        const int64_t size = t->element_size();
        pieces.push_back({static_cast<const char*>(t->data_ptr()) + sample * t->stride(0) * size, t->stride(1) * size, t->size(2) * size, t->size(1)});
        rows = std::max(rows, t->size(1));
    }
    for (int64_t row = 0; row < rows; ++row)
        for (const Piece& piece : pieces)
            if (row < piece.rows)
                for (int64_t i = 0; i < piece.width; i += line) static_cast<void>(*static_cast<const volatile char*>(piece.data + row * piece.stride + i));
}

bool isFirst(const AttentionSizes& z, int64_t each, int64_t begin) { return each == begin || each % z.heads == 0; }

}  // namespace

void fetchRows(const AttentionForward& a, int64_t each, int64_t begin) {
    if (isFirst(a.sizes, each, begin)) fetchSample({&a.in.q, &a.in.k, &a.in.v, &a.out}, each / a.sizes.heads);
}

void fetchRows(const AttentionBackward& a, int64_t each, int64_t begin) {
    if (!isFirst(a.sizes, each, begin)) return;
    fetchSample({&a.in.q, &a.in.k, &a.in.v, &a.out, &a.outGrad, &a.grads.q, &a.grads.k, &a.grads.v}, each / a.sizes.heads);
}

}  // namespace tessera
