// Attention of one head after the other in bfloat16, on libtorch's micro-kernel for it (products.h).
#include "attention.h"
#include "products.h"

namespace tessera {

namespace {

using kernels::Bf16;

constexpr int64_t kRowsOfBlock = 256;  // of scores, which then stay in a core's own cache

// Whole tiles of AMX.
int64_t padded(int64_t tokens) { return rounded(tokens, 32); }

struct Sizes : AttentionSizes {
    int64_t keysPadded, depthPadded;
    explicit Sizes(const AttentionSizes& z) : AttentionSizes(z), keysPadded(padded(z.keys)), depthPadded(rounded(z.depth, 32)) {}
};

void forward(const AttentionForward& a) {
    const auto& k = kernels::table();
    const Sizes z(a.sizes);
    at::parallel_for(0, z.batch * z.heads, 1, [&](int64_t begin, int64_t end) {
        const int64_t block = std::min(z.queriesPadded, kRowsOfBlock);
        Scratch scratch(2 * (z.queries + 2 * z.keysPadded) * z.depthPadded + 4 * z.keysPadded * z.depthPadded + 6 * block * z.keysPadded +
                        4 * block * (z.depthPadded + 1));
        Bf16* q = scratch.take<Bf16>(z.queries * z.depthPadded);
        Bf16* rows = scratch.take<Bf16>(z.keys * z.depthPadded);
        uint32_t* keyPairs = scratch.take<uint32_t>(z.depthPadded / 2 * z.keysPadded);
        uint32_t* valuePairs = scratch.take<uint32_t>(z.keysPadded / 2 * z.depthPadded);
        float* scores = scratch.take<float>(block * z.keysPadded);
        Bf16* weights = scratch.take<Bf16>(block * z.keysPadded);
        float* result = scratch.take<float>(block * z.depthPadded);
        float* factor = scratch.take<float>(block);
        for (int64_t each = begin; each < end; ++each) {
            k.copyHead({rowsOf(a.in.q, z, each), biasOf(a.in.qBias, z, each), a.scale, z.queries, z.depth, z.depthPadded, q});
            k.copyHead({rowsOf(a.in.k, z, each), biasOf(a.in.kBias, z, each), 1.0f, z.keys, z.depth, z.depthPadded, rows});
            k.transposePairs(rows, z.depthPadded, z.keys, z.depthPadded, z.keysPadded, keyPairs, nullptr);
            k.copyHead({rowsOf(a.in.v, z, each), biasOf(a.in.vBias, z, each), 1.0f, z.keys, z.depth, z.depthPadded, rows});
            k.pairRows(rows, z.depthPadded, z.keys, z.depthPadded, z.keysPadded, valuePairs);
            const float* masks = maskOf(a.mask, z, each);
            for (int64_t row = 0; row < z.queries; row += block) {
                const int64_t count = std::min(block, z.queries - row);
                multiply(count, z.keysPadded, z.depthPadded, q + row * z.depthPadded, z.depthPadded, keyPairs, z.keysPadded, scores, z.keysPadded, false);
                k.softmaxRows[kernels::kHalf]({count, z.keys, z.keysPadded, scores, masks ? masks + row * a.mask.stride(2) : nullptr, masks ? a.mask.stride(2) : 0, weights,
                               factor, a.logSums + each * z.queriesPadded + row});
                multiply(count, z.depthPadded, z.keysPadded, weights, z.keysPadded, valuePairs, z.depthPadded, result, z.depthPadded, false);
                k.storeRows[kernels::kHalf](result, count, z.depth, z.depthPadded, factor, rowsInto(a.out, z, each, row), nullptr);
            }
        }
        releaseProducts();
    });
}

void backward(const AttentionBackward& a) {
    const auto& k = kernels::table();
    const Sizes z(a.sizes);
    at::parallel_for(0, z.batch * z.heads, 1, [&](int64_t begin, int64_t end) {
        const int64_t block = std::min(z.keysPadded, kRowsOfBlock);
        Scratch scratch(2 * z.depthPadded * (2 * z.queries + 2 * z.keys + z.keysPadded) + 8 * z.depthPadded * z.queriesPadded +
                        (4 + 4 + 2 + 2 + 2) * block * z.queriesPadded + 4 * z.depthPadded * (block + z.queriesPadded) + 4 * z.queriesPadded);
        Bf16* q = scratch.take<Bf16>(z.queries * z.depthPadded);
        Bf16* keys = scratch.take<Bf16>(z.keys * z.depthPadded);
        Bf16* values = scratch.take<Bf16>(z.keys * z.depthPadded);
        Bf16* upper = scratch.take<Bf16>(z.queries * z.depthPadded);  // the gradient of what came out
        Bf16* keysTransposed = scratch.take<Bf16>(z.depthPadded * z.keysPadded);
        uint32_t* qAcross = scratch.take<uint32_t>(z.depthPadded / 2 * z.queriesPadded);
        uint32_t* upperAcross = scratch.take<uint32_t>(z.depthPadded / 2 * z.queriesPadded);
        uint32_t* qPairs = scratch.take<uint32_t>(z.queriesPadded / 2 * z.depthPadded);
        uint32_t* upperPairs = scratch.take<uint32_t>(z.queriesPadded / 2 * z.depthPadded);
        float* scores = scratch.take<float>(block * z.queriesPadded);
        float* weightGrads = scratch.take<float>(block * z.queriesPadded);
        Bf16* weights = scratch.take<Bf16>(block * z.queriesPadded);
        Bf16* scoreGrads = scratch.take<Bf16>(block * z.queriesPadded);
        uint32_t* scoreGradPairs = scratch.take<uint32_t>(block / 2 * z.queriesPadded);
        float* result = scratch.take<float>(block * z.depthPadded);
        float* qGrad = scratch.take<float>(z.depthPadded * z.queriesPadded);
        float* dots = scratch.take<float>(z.queriesPadded);
        std::fill(dots + z.queries, dots + z.queriesPadded, 0.0f);
        for (int64_t each = begin; each < end; ++each) {
            const auto gradRows = rowsOf(a.outGrad, z, each);
            k.copyHead({rowsOf(a.in.q, z, each), biasOf(a.in.qBias, z, each), a.scale, z.queries, z.depth, z.depthPadded, q});
            k.copyHead({rowsOf(a.in.k, z, each), biasOf(a.in.kBias, z, each), 1.0f, z.keys, z.depth, z.depthPadded, keys});
            k.copyHead({rowsOf(a.in.v, z, each), biasOf(a.in.vBias, z, each), 1.0f, z.keys, z.depth, z.depthPadded, values});
            k.copyHead({gradRows, nullptr, 1.0f, z.queries, z.depth, z.depthPadded, upper});
            k.transposePairs(keys, z.depthPadded, z.keys, z.depthPadded, z.keysPadded, nullptr, keysTransposed);
            k.transposePairs(q, z.depthPadded, z.queries, z.depthPadded, z.queriesPadded, qAcross, nullptr);
            k.transposePairs(upper, z.depthPadded, z.queries, z.depthPadded, z.queriesPadded, upperAcross, nullptr);
            k.pairRows(q, z.depthPadded, z.queries, z.depthPadded, z.queriesPadded, qPairs);
            k.pairRows(upper, z.depthPadded, z.queries, z.depthPadded, z.queriesPadded, upperPairs);
            k.rowDots[kernels::kHalf](gradRows, rowsOf(a.out, z, each), z.queries, z.depth, dots);
            const float* masks = maskOf(a.mask, z, each);
            for (int64_t row = 0; row < z.keys; row += block) {
                const int64_t count = std::min(block, z.keys - row);
                const int64_t even = rounded(count, 2);
                multiply(count, z.queriesPadded, z.depthPadded, keys + row * z.depthPadded, z.depthPadded, qAcross, z.queriesPadded, scores, z.queriesPadded,
                         false);
                multiply(count, z.queriesPadded, z.depthPadded, values + row * z.depthPadded, z.depthPadded, upperAcross, z.queriesPadded, weightGrads,
                         z.queriesPadded, false);
                k.softmaxBackward({count, z.queriesPadded, scores, masks ? masks + row * z.queriesPadded : nullptr, z.queriesPadded, weightGrads,
                                   a.logSums + each * z.queriesPadded, dots, weights, scoreGrads, scoreGradPairs});
                multiply(count, z.depthPadded, z.queriesPadded, weights, z.queriesPadded, upperPairs, z.depthPadded, result, z.depthPadded, false);
                k.storeRows[kernels::kHalf](result, count, z.depth, z.depthPadded, nullptr, rowsInto(a.grads.v, z, each, row), biasSumsOf(a, each, 2));
                multiply(count, z.depthPadded, z.queriesPadded, scoreGrads, z.queriesPadded, qPairs, z.depthPadded, result, z.depthPadded, false);
                k.storeRows[kernels::kHalf](result, count, z.depth, z.depthPadded, nullptr, rowsInto(a.grads.k, z, each, row), biasSumsOf(a, each, 1));
                multiply(z.depthPadded, z.queriesPadded, even, keysTransposed + row, z.keysPadded, scoreGradPairs, z.queriesPadded, qGrad, z.queriesPadded,
                         row > 0);
            }
            k.storeTransposed[kernels::kHalf](qGrad, z.queries, z.depth, z.queriesPadded, a.scale, rowsInto(a.grads.q, z, each, 0), biasSumsOf(a, each, 0));
        }
        releaseProducts();
    });
}

}  // namespace

const AttentionLoops kAttentionHalf{padded, forward, backward};

}  // namespace tessera
