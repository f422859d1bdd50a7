// Attention of one head after the other in float32, on our micro-kernel for it; what comes in and goes out may be bfloat16. All matrices of a head
// are in panels (kernels.h), which the micro-kernel reads on either side.
#include "attention.h"
#include "products.h"

namespace tessera {

namespace {

using kernels::Pieces;

// Tokens of a block are multiples of this, and so of every panel's and strip's width.
constexpr int64_t kRowsOfBlock = 48;

int64_t padded(int64_t tokens) { return rounded(tokens, kernels::table().panelColumns); }

// As many as stay in a core's own cache; where there is a mask few, because of fewer more is hidden.
int64_t rowsOfBlock(int64_t tokens, int64_t columns, const at::Tensor& mask) {
    return std::min(rounded(tokens, kRowsOfBlock), columns > 512 || mask.defined() ? kRowsOfBlock : 2 * kRowsOfBlock);
}

// A matrix [rows][columns] in panels, from one row on: as the left factor of a product, or as what comes out.
template <class T>
Pieces<T> panels(T* all, int64_t rows, int64_t from = 0) {
    const int64_t width = kernels::table().panelColumns;
    return {all + from * width, width, width, rows * width};
}

// Panels of [rows][depth] to those of the transposed matrix.
void transpose(const float* in, int64_t rows, int64_t depth, float* out) {
    const auto& k = kernels::table();
    const int64_t width = k.panelColumns;
    for (int64_t row = 0; row < rows; row += width)
        for (int64_t c = 0; c < depth; c += width)
            k.transposePanel[kernels::kFloat](in + c * rows + row * width, width, std::min(width, depth - c), std::min(width, rows - row),
                                              out + row * depth + c * width);
}

void forward(const AttentionForward& a) {
    const auto& k = kernels::table();
    const AttentionSizes& z = a.sizes;
    const int type = typeOf(a.out);
    const int64_t keysPadded = padded(z.keys), depthPadded = padded(z.depth), block = rowsOfBlock(z.queries, keysPadded, a.mask);
    const int64_t panel = k.panelColumns;
    const Seen seen(a.mask, z.keys, block);
    at::parallel_for(0, z.batch * z.heads, 1, [&](int64_t begin, int64_t end) {
        Scratch scratch(4 * (depthPadded * (z.queries + 2 * z.keys + block) + keysPadded * (z.depth + block) + block));
        float* q = scratch.take<float>(z.queries * depthPadded);
        float* rows = scratch.take<float>(z.keys * depthPadded);
        float* keys = scratch.take<float>(keysPadded * z.depth);  // transposed
        float* values = scratch.take<float>(z.keys * depthPadded);
        float* scores = scratch.take<float>(block * keysPadded);
        float* result = scratch.take<float>(block * depthPadded);
        float* factor = scratch.take<float>(block);
        for (int64_t each = begin; each < end; ++each) {
            fetchRows(a, each, begin);
            k.copyPanels[type]({rowsOf(a.in.q, z, each), biasOf(a.in.qBias, z, each), a.scale, z.queries, z.depth, 0, q});
            k.copyPanels[type]({rowsOf(a.in.k, z, each), biasOf(a.in.kBias, z, each), 1.0f, z.keys, z.depth, 0, rows});
            k.copyPanels[type]({rowsOf(a.in.v, z, each), biasOf(a.in.vBias, z, each), 1.0f, z.keys, z.depth, 0, values});
            transpose(rows, z.keys, z.depth, keys);
            const float* mask = maskOf(a.mask, z, each);
            for (int64_t row = 0; row < z.queries; row += block) {
                const int64_t count = std::min(block, z.queries - row), keysSeen = seen.end(z, each, row);
                k.multiplyPanels({count, keysSeen, z.depth, panels<const float>(q, z.queries, row), keys, z.depth * panel,
                                  {scores, keysPadded, panel, panel}, false});
                k.softmaxRows[kernels::kFloat]({count, keysSeen, keysPadded, scores, mask ? mask + row * a.mask.stride(2) : nullptr,
                                                mask ? a.mask.stride(2) : 0, scores, factor, a.logSums + each * z.queriesPadded + row});
                k.multiplyPanels({count, z.depth, keysSeen, {scores, keysPadded, INT64_MAX, 0}, values, z.keys * panel,
                                  {result, depthPadded, panel, panel}, false});
                k.storeRows[type](result, count, z.depth, depthPadded, factor, rowsInto(a.out, z, each, row), nullptr);
            }
        }
    });
}

void backward(const AttentionBackward& a) {
    const auto& k = kernels::table();
    const AttentionSizes& z = a.sizes;
    const int type = typeOf(a.out);
    const int64_t keysPadded = padded(z.keys), depthPadded = padded(z.depth), block = rowsOfBlock(z.keys, z.queriesPadded, a.mask);
    const int64_t panel = k.panelColumns;
    const Seen seeing(a.mask, z.queries, block);
    at::parallel_for(0, z.batch * z.heads, 1, [&](int64_t begin, int64_t end) {
        Scratch scratch(4 * (2 * depthPadded * (z.queries + z.keys) + z.depth * (2 * z.queriesPadded + keysPadded) + 2 * block * z.queriesPadded +
                             depthPadded * (block + z.queriesPadded) + z.queriesPadded));
        float* q = scratch.take<float>(z.queries * depthPadded);
        float* keys = scratch.take<float>(z.keys * depthPadded);
        float* values = scratch.take<float>(z.keys * depthPadded);
        float* upper = scratch.take<float>(z.queries * depthPadded);  // the gradient of what came out
        float* qAcross = scratch.take<float>(z.queriesPadded * z.depth);
        float* upperAcross = scratch.take<float>(z.queriesPadded * z.depth);
        float* keysAcross = scratch.take<float>(keysPadded * z.depth);
        float* weights = scratch.take<float>(block * z.queriesPadded);     // first the scores, of each key with all queries
        float* scoreGrads = scratch.take<float>(block * z.queriesPadded);  // first the weights' gradients
        float* result = scratch.take<float>(block * depthPadded);
        float* qGrad = scratch.take<float>(depthPadded * z.queriesPadded);  // transposed
        float* dots = scratch.take<float>(z.queriesPadded);
        std::fill(dots + z.queries, dots + z.queriesPadded, 0.0f);
        for (int64_t each = begin; each < end; ++each) {
            fetchRows(a, each, begin);
            const auto gradRows = rowsOf(a.outGrad, z, each);
            k.copyPanels[type]({rowsOf(a.in.q, z, each), biasOf(a.in.qBias, z, each), a.scale, z.queries, z.depth, 0, q});
            k.copyPanels[type]({rowsOf(a.in.k, z, each), biasOf(a.in.kBias, z, each), 1.0f, z.keys, z.depth, 0, keys});
            k.copyPanels[type]({rowsOf(a.in.v, z, each), biasOf(a.in.vBias, z, each), 1.0f, z.keys, z.depth, 0, values});
            k.copyPanels[type]({gradRows, nullptr, 1.0f, z.queries, z.depth, 0, upper});
            transpose(q, z.queries, z.depth, qAcross);
            transpose(upper, z.queries, z.depth, upperAcross);
            transpose(keys, z.keys, z.depth, keysAcross);
            k.rowDots[type](gradRows, rowsOf(a.out, z, each), z.queries, z.depth, dots);
            const float* mask = maskOf(a.mask, z, each);
            // Then some of the queries may not see the first block.
            if (mask) std::fill(qGrad, qGrad + depthPadded * z.queriesPadded, 0.0f);
            for (int64_t row = 0; row < z.keys; row += block) {
                const int64_t count = std::min(block, z.keys - row);
                // The queries from here on see these keys.
                const int64_t first = seeing.begin(z, each, row) / panel * panel, queries = z.queries - first;
                const auto multiplyKeys = [&](const float* left, const float* right, float* out) {
                    k.multiplyPanels({count, queries, z.depth, panels<const float>(left, z.keys, row), right + first * z.depth, z.depth * panel,
                                      panels(out, count), false});
                };
                multiplyKeys(keys, qAcross, weights);
                multiplyKeys(values, upperAcross, scoreGrads);
                k.panelSoftmaxBackward({count, z.queriesPadded - first, weights, mask ? mask + row * z.queriesPadded + first : nullptr, z.queriesPadded,
                                        scoreGrads, a.logSums + each * z.queriesPadded + first, dots + first});
                const auto gradient = [&](const float* left, const float* right, const at::Tensor& to, int64_t part) {
                    k.multiplyPanels({count, z.depth, queries, panels(left, count), right + first * panel, z.queries * panel,
                                      {result, depthPadded, panel, panel}, false});
                    k.storeRows[type](result, count, z.depth, depthPadded, nullptr, rowsInto(to, z, each, row), biasSumsOf(a, each, part));
                };
                gradient(weights, upper, a.grads.v, 2);
                gradient(scoreGrads, q, a.grads.k, 1);
                k.multiplyPanels({z.depth, queries, count, panels<const float>(keysAcross + row * z.depth, z.depth), scoreGrads, count * panel,
                                  {qGrad + first, z.queriesPadded, panel, panel}, mask || row > 0});
            }
            k.storeTransposed[type](qGrad, z.queries, z.depth, z.queriesPadded, a.scale, rowsInto(a.grads.q, z, each, 0), biasSumsOf(a, each, 0));
        }
    });
}

}  // namespace

const AttentionLoops kAttentionFloat{padded, forward, backward};

}  // namespace tessera
