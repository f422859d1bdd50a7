// Attention of one head after the other in bfloat16, on libtorch's micro-kernel for it (products.h).
#include "attention.h"
#include "products.h"

namespace tessera {

namespace {

using kernels::Bf16;

// Whole tiles of AMX, or vectors.
int64_t padded(int64_t tokens) { return rounded(tokens, hasTiles() ? 32 : 16); }

// Of scores, as many as stay in a core's own cache; where there is a mask few, because of fewer more is hidden.
int64_t rowsOfBlock(int64_t tokens, const at::Tensor& mask) { return std::min<int64_t>(rounded(tokens, 32), mask.defined() ? 64 : 256); }

struct Sizes : AttentionSizes {
    int64_t keysPadded, depthPadded;
    explicit Sizes(const AttentionSizes& z) : AttentionSizes(z), keysPadded(padded(z.keys)), depthPadded(rounded(z.depth, 32)) {}
};

void forward(const AttentionForward& a) {
    const auto& k = kernels::table();
    const Sizes z(a.sizes);
    const int64_t block = rowsOfBlock(z.queries, a.mask);
    const Seen seen(a.mask, z.keys, block);
    at::parallel_for(0, z.batch * z.heads, 1, [&](int64_t begin, int64_t end) {
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
            fetchRows(a, each, begin);
            k.copyHead({rowsOf(a.in.q, z, each), biasOf(a.in.qBias, z, each), a.scale, z.queries, z.depth, z.depthPadded, q});
            k.copyHead({rowsOf(a.in.k, z, each), biasOf(a.in.kBias, z, each), 1.0f, z.keys, z.depth, z.depthPadded, rows});
            k.transposePairs(rows, z.depthPadded, z.keys, z.depthPadded, z.keysPadded, keyPairs, nullptr);
            k.copyHead({rowsOf(a.in.v, z, each), biasOf(a.in.vBias, z, each), 1.0f, z.keys, z.depth, z.depthPadded, rows});
            k.pairRows(rows, z.depthPadded, z.keys, z.depthPadded, z.keysPadded, valuePairs);
            const float* masks = maskOf(a.mask, z, each);
            for (int64_t row = 0; row < z.queries; row += block) {
                const int64_t count = std::min(block, z.queries - row), keysSeen = seen.end(z, each, row), width = padded(keysSeen);
                multiply(count, width, z.depthPadded, q + row * z.depthPadded, z.depthPadded, keyPairs, z.keysPadded, scores, width, false);
                k.softmaxRows[kernels::kHalf]({count, keysSeen, width, scores, masks ? masks + row * a.mask.stride(2) : nullptr,
                                               masks ? a.mask.stride(2) : 0, weights, factor, a.logSums + each * z.queriesPadded + row});
                multiply(count, z.depthPadded, width, weights, width, valuePairs, z.depthPadded, result, z.depthPadded, false);
                k.storeRows[kernels::kHalf](result, count, z.depth, z.depthPadded, factor, rowsInto(a.out, z, each, row), nullptr);
            }
        }
        releaseProducts();
    });
}

void backward(const AttentionBackward& a) {
    const auto& k = kernels::table();
    const Sizes z(a.sizes);
    const int64_t block = rowsOfBlock(z.keys, a.mask);
    const Seen seeing(a.mask, z.queries, block);
    at::parallel_for(0, z.batch * z.heads, 1, [&](int64_t begin, int64_t end) {
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
            fetchRows(a, each, begin);
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
            // Then some of the queries may not see the first block.
            if (masks) std::fill(qGrad, qGrad + z.depthPadded * z.queriesPadded, 0.0f);
            for (int64_t row = 0; row < z.keys; row += block) {
                const int64_t count = std::min(block, z.keys - row);
                // The queries from here on see these keys.
                const int64_t first = seeing.begin(z, each, row) / 32 * 32, width = z.queriesPadded - first;
                const auto multiplyKeys = [&](const Bf16* left, const uint32_t* right, float* out) {
                    multiply(count, width, z.depthPadded, left + row * z.depthPadded, z.depthPadded, right + first, z.queriesPadded, out, width, false);
                };
                multiplyKeys(keys, qAcross, scores);
                multiplyKeys(values, upperAcross, weightGrads);
                k.softmaxBackward({count, width, scores, masks ? masks + row * z.queriesPadded + first : nullptr, z.queriesPadded, weightGrads,
                                   a.logSums + each * z.queriesPadded + first, dots + first, weights, scoreGrads, scoreGradPairs});
                const auto gradient = [&](const Bf16* left, const uint32_t* right, const at::Tensor& to, int64_t part) {
                    multiply(count, z.depthPadded, width, left, width, right + first / 2 * z.depthPadded, z.depthPadded, result, z.depthPadded, false);
                    k.storeRows[kernels::kHalf](result, count, z.depth, z.depthPadded, nullptr, rowsInto(to, z, each, row), biasSumsOf(a, each, part));
                };
                gradient(weights, upperPairs, a.grads.v, 2);
                gradient(scoreGrads, qPairs, a.grads.k, 1);
                multiply(z.depthPadded, width, rounded(count, 2), keysTransposed + row, z.keysPadded, scoreGradPairs, width, qGrad + first, z.queriesPadded,
                         masks || row > 0);
            }
            k.storeTransposed[kernels::kHalf](qGrad, z.queries, z.depth, z.queriesPadded, a.scale, rowsInto(a.grads.q, z, each, 0), biasSumsOf(a, each, 0));
        }
        releaseProducts();
    });
}

}  // namespace

const AttentionLoops kAttentionHalf{padded, forward, backward};

}  // namespace tessera
