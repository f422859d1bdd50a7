// Attention in bfloat16 without its weights in memory: for each head scores, softmax and products follow one another in the cache, and backward
// makes the scores again (FlashAttention's idea; Dao et al. 2022). The products are those of a matrix micro-kernel for bfloat16
// (products.h); where there is none the operators are not there.
#include "fused.h"
#include "products.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {

namespace {

using at::Tensor;
using kernels::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsOfBlock = 256;  // of scores, which then stay in a core's own cache

// What the micro-kernel likes: whole tiles of AMX, or whole panels of ours.
int64_t padded(int64_t tokens) { return rounded(tokens, kernels::table().multiplyPairs ? kernels::table().panelColumns : 32); }

// Sizes of one attention: `queries` look at `keys`.
struct Sizes {
    int64_t batch, queries, keys, heads, depth;
    int64_t queriesPadded, keysPadded, depthPadded;
    Sizes(int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t depth)
        : batch(batch), queries(queries), keys(keys), heads(heads), depth(depth), queriesPadded(padded(queries)), keysPadded(padded(keys)),
          depthPadded(rounded(depth, 32)) {}
    int64_t width() const { return heads * depth; }
};

// Queries, keys and values (or their gradients): one tensor each, or parts of one with a common bias.
struct Inputs {
    Tensor q, k, v;
    const float *qBias = nullptr, *kBias = nullptr, *vBias = nullptr;
};

kernels::Rows rowsOf(const Tensor& t, int64_t sample, int64_t head, int64_t depth) {
    return {bits(t) + sample * t.stride(0) + head * depth, t.stride(1)};
}
kernels::RowsOut rowsInto(const Tensor& t, int64_t sample, int64_t head, int64_t depth, int64_t row) {
    return {bits(t) + sample * t.stride(0) + row * t.stride(1) + head * depth, t.stride(1)};
}

const float* maskOf(const Tensor& mask, int64_t sample, int64_t head) {
    if (!mask.defined()) return nullptr;
    const auto at = [&](int64_t d, int64_t i) { return mask.size(d) == 1 ? 0 : i * mask.stride(d); };
    return static_cast<const float*>(mask.data_ptr()) + at(0, sample) + at(1, head);
}

void forwardHeads(const Sizes& z, const Inputs& in, const Tensor& mask, float scale, const Tensor& out, float* logSums) {
    const auto& k = kernels::table();
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
            const int64_t sample = each / z.heads, head = each % z.heads, offset = head * z.depth;
            const auto biasOf = [&](const float* bias) { return bias ? bias + offset : nullptr; };
            k.copyHead({rowsOf(in.q, sample, head, z.depth), biasOf(in.qBias), scale, z.queries, z.depth, z.depthPadded, q});
            k.copyHead({rowsOf(in.k, sample, head, z.depth), biasOf(in.kBias), 1.0f, z.keys, z.depth, z.depthPadded, rows});
            k.transposePairs({rows, z.depthPadded}, z.keys, z.depthPadded, z.keysPadded, keyPairs, nullptr);
            k.copyHead({rowsOf(in.v, sample, head, z.depth), biasOf(in.vBias), 1.0f, z.keys, z.depth, z.depthPadded, rows});
            k.pairRows({rows, z.depthPadded}, z.keys, z.depthPadded, z.keysPadded, valuePairs);
            const float* masks = maskOf(mask, sample, head);
            for (int64_t row = 0; row < z.queries; row += block) {
                const int64_t count = std::min(block, z.queries - row);
                multiply(count, z.keysPadded, z.depthPadded, q + row * z.depthPadded, z.depthPadded, keyPairs, z.keysPadded, scores, z.keysPadded, false);
                k.softmaxRows({count, z.keys, z.keysPadded, scores, masks ? masks + row * mask.stride(2) : nullptr, masks ? mask.stride(2) : 0, weights,
                               factor, logSums + each * z.queriesPadded + row});
                multiply(count, z.depthPadded, z.keysPadded, weights, z.keysPadded, valuePairs, z.depthPadded, result, z.depthPadded, false);
                k.storeRows(result, count, z.depth, z.depthPadded, factor, rowsInto(out, sample, head, z.depth, row), nullptr);
            }
        }
        releaseProducts();
    });
}

// `transposedMask` is [.., .., keys, queriesPadded]. Sums of the gradients over samples and tokens go to biasGrads [3][width], where it is given.
void backwardHeads(const Sizes& z, const Inputs& in, const Tensor& transposedMask, float scale, const Tensor& out, const Tensor& outGrad,
                   const float* logSums, const Inputs& grads, float* biasGrads) {
    const auto& k = kernels::table();
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
            const int64_t sample = each / z.heads, head = each % z.heads, offset = head * z.depth;
            const auto biasOf = [&](const float* bias) { return bias ? bias + offset : nullptr; };
            const auto sumsOf = [&](int64_t part) {
                return biasGrads ? biasGrads + (at::get_thread_num() * 3 + part) * z.width() + offset : nullptr;
            };
            const auto gradRows = rowsOf(outGrad, sample, head, z.depth);
            k.copyHead({rowsOf(in.q, sample, head, z.depth), biasOf(in.qBias), scale, z.queries, z.depth, z.depthPadded, q});
            k.copyHead({rowsOf(in.k, sample, head, z.depth), biasOf(in.kBias), 1.0f, z.keys, z.depth, z.depthPadded, keys});
            k.copyHead({rowsOf(in.v, sample, head, z.depth), biasOf(in.vBias), 1.0f, z.keys, z.depth, z.depthPadded, values});
            k.copyHead({gradRows, nullptr, 1.0f, z.queries, z.depth, z.depthPadded, upper});
            k.transposePairs({keys, z.depthPadded}, z.keys, z.depthPadded, z.keysPadded, nullptr, keysTransposed);
            k.transposePairs({q, z.depthPadded}, z.queries, z.depthPadded, z.queriesPadded, qAcross, nullptr);
            k.transposePairs({upper, z.depthPadded}, z.queries, z.depthPadded, z.queriesPadded, upperAcross, nullptr);
            k.pairRows({q, z.depthPadded}, z.queries, z.depthPadded, z.queriesPadded, qPairs);
            k.pairRows({upper, z.depthPadded}, z.queries, z.depthPadded, z.queriesPadded, upperPairs);
            k.rowDots(gradRows, rowsOf(out, sample, head, z.depth), z.queries, z.depth, dots);
            const float* masks = maskOf(transposedMask, sample, head);
            for (int64_t row = 0; row < z.keys; row += block) {
                const int64_t count = std::min(block, z.keys - row);
                const int64_t even = rounded(count, 2);
                multiply(count, z.queriesPadded, z.depthPadded, keys + row * z.depthPadded, z.depthPadded, qAcross, z.queriesPadded, scores, z.queriesPadded,
                         false);
                multiply(count, z.queriesPadded, z.depthPadded, values + row * z.depthPadded, z.depthPadded, upperAcross, z.queriesPadded, weightGrads,
                         z.queriesPadded, false);
                k.softmaxBackward({count, z.queriesPadded, scores, masks ? masks + row * z.queriesPadded : nullptr, z.queriesPadded, weightGrads,
                                   logSums + each * z.queriesPadded, dots, weights, scoreGrads, scoreGradPairs});
                multiply(count, z.depthPadded, z.queriesPadded, weights, z.queriesPadded, upperPairs, z.depthPadded, result, z.depthPadded, false);
                k.storeRows(result, count, z.depth, z.depthPadded, nullptr, rowsInto(grads.v, sample, head, z.depth, row), sumsOf(2));
                multiply(count, z.depthPadded, z.queriesPadded, scoreGrads, z.queriesPadded, qPairs, z.depthPadded, result, z.depthPadded, false);
                k.storeRows(result, count, z.depth, z.depthPadded, nullptr, rowsInto(grads.k, sample, head, z.depth, row), sumsOf(1));
                multiply(z.depthPadded, z.queriesPadded, even, keysTransposed + row, z.keysPadded, scoreGradPairs, z.queriesPadded, qGrad, z.queriesPadded,
                         row > 0);
            }
            k.storeTransposed(qGrad, z.queries, z.depth, z.queriesPadded, scale, rowsInto(grads.q, sample, head, z.depth, 0), sumsOf(0));
        }
        releaseProducts();
    });
}

const float* dataOf(const Tensor& t) { return t.defined() ? static_cast<const float*>(t.data_ptr()) : nullptr; }

// Padded queries have no weight on any key.
Tensor emptyLogSums(const Sizes& z) { return at::full({z.batch * z.heads, z.queriesPadded}, 1e30f, at::kFloat); }

Tensor across(const Tensor& mask, const Sizes& z) {
    if (!mask.defined()) return mask;
    return at::constant_pad_nd(mask.transpose(-1, -2), {0, z.queriesPadded - z.queries}).contiguous();
}

// Rows may lie apart, numbers of a row may not.
Tensor rowsTogether(const Tensor& x) { return x.stride(2) == 1 ? x : x.contiguous(); }

// qkv [B, N, 3 C]
Inputs partsOf(const Tensor& qkv, const Tensor& bias) {
    const int64_t width = qkv.size(2) / 3;
    Inputs in{qkv.narrow(2, 0, width), qkv.narrow(2, width, width), qkv.narrow(2, 2 * width, width)};
    if (bias.defined()) {
        in.qBias = dataOf(bias);
        in.kBias = in.qBias + width;
        in.vBias = in.kBias + width;
    }
    return in;
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& qkv, const Optional<Tensor>& bias, const Optional<Tensor>& mask, int64_t heads, double scale) {
        const Tensor from = qkv.contiguous(), b = contiguous(orUndefined(bias)), m = contiguous(orUndefined(mask));
        const int64_t width = from.size(2) / 3;
        const Sizes z(from.size(0), from.size(1), from.size(1), heads, width / heads);
        const Tensor out = at::empty({z.batch, z.queries, width}, from.options()), logSums = emptyLogSums(z);
        forwardHeads(z, partsOf(from, b), m, static_cast<float>(scale), out, static_cast<float*>(logSums.data_ptr()));
        ctx->save_for_backward({from, b, m, logSums});
        ctx->saved_data["out"] = out.detach();
        ctx->saved_data["heads"] = heads;
        ctx->saved_data["scale"] = scale;
        return out;
    }

    static variable_list backward(AutogradContext* ctx, variable_list given) {
        refuseSecondOrder("tessera::attention");
        const auto saved = ctx->get_saved_variables();
        const Tensor &qkv = saved[0], &bias = saved[1], &mask = saved[2], &logSums = saved[3];
        const int64_t heads = ctx->saved_data["heads"].toInt(), width = qkv.size(2) / 3;
        RECORD_FUNCTION("tessera::attention_backward", std::vector<c10::IValue>({qkv, c10::IValue(), c10::IValue(), heads}));
        const Sizes z(qkv.size(0), qkv.size(1), qkv.size(1), heads, width / heads);
        const Tensor outGrad = given[0].contiguous(), grad = at::empty(qkv.sizes(), qkv.options());
        const Tensor biasGrads = bias.defined() ? at::zeros({at::get_num_threads(), 3 * width}, at::kFloat) : Tensor();
        backwardHeads(z, partsOf(qkv, bias), across(mask, z), static_cast<float>(ctx->saved_data["scale"].toDouble()), ctx->saved_data["out"].toTensor(), outGrad,
                      dataOf(logSums), partsOf(grad, Tensor()),
                      bias.defined() ? static_cast<float*>(biasGrads.data_ptr()) : nullptr);
        return {grad, bias.defined() ? biasGrads.sum(0) : Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

// As above for queries, keys and values [B, n or m, C] that are products of their own; keys have no bias, which would change no softmax.
struct CrossAttentionFunction : torch::autograd::Function<CrossAttentionFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& queries, const Tensor& keys, const Tensor& values, const Optional<Tensor>& qBias,
                          const Optional<Tensor>& vBias, const Optional<Tensor>& mask, int64_t heads, double scale) {
        const Tensor q = rowsTogether(queries), k = rowsTogether(keys), v = rowsTogether(values);
        const Tensor ofQ = contiguous(orUndefined(qBias)), ofV = contiguous(orUndefined(vBias)), m = contiguous(orUndefined(mask));
        const Sizes z(q.size(0), q.size(1), k.size(1), heads, q.size(2) / heads);
        const Tensor out = at::empty({z.batch, z.queries, z.width()}, q.options()), logSums = emptyLogSums(z);
        forwardHeads(z, {q, k, v, dataOf(ofQ), nullptr, dataOf(ofV)}, m, static_cast<float>(scale), out, static_cast<float*>(logSums.data_ptr()));
        ctx->save_for_backward({q, k, v, ofQ, ofV, m, logSums});
        ctx->saved_data["out"] = out.detach();
        ctx->saved_data["heads"] = heads;
        ctx->saved_data["scale"] = scale;
        return out;
    }

    static variable_list backward(AutogradContext* ctx, variable_list given) {
        refuseSecondOrder("tessera::cross_attention");
        const auto saved = ctx->get_saved_variables();
        const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &qBias = saved[3], &vBias = saved[4], &mask = saved[5], &logSums = saved[6];
        const int64_t heads = ctx->saved_data["heads"].toInt(), width = q.size(2);
        RECORD_FUNCTION("tessera::cross_attention_backward", std::vector<c10::IValue>({q, k, c10::IValue(), c10::IValue(), c10::IValue(), c10::IValue(), heads}));
        const Sizes z(q.size(0), q.size(1), k.size(1), heads, width / heads);
        const Tensor outGrad = given[0].contiguous();
        const Inputs grads{at::empty(q.sizes(), q.options()), at::empty(k.sizes(), k.options()), at::empty(v.sizes(), v.options())};
        const Tensor biasGrads = qBias.defined() || vBias.defined() ? at::zeros({at::get_num_threads(), 3 * width}, at::kFloat) : Tensor();
        backwardHeads(z, {q, k, v, dataOf(qBias), nullptr, dataOf(vBias)}, across(mask, z), static_cast<float>(ctx->saved_data["scale"].toDouble()),
                      ctx->saved_data["out"].toTensor(), outGrad, dataOf(logSums), grads,
                      biasGrads.defined() ? static_cast<float*>(biasGrads.data_ptr()) : nullptr);
        const Tensor sums = biasGrads.defined() ? biasGrads.sum(0) : biasGrads;
        return {grads.q, grads.k, grads.v, qBias.defined() ? sums.narrow(0, 0, width) : Tensor(), vBias.defined() ? sums.narrow(0, 2 * width, width) : Tensor(),
                Tensor(), Tensor(), Tensor()};
    }
};

void expectMask(const char* op, const Tensor& mask, const Sizes& z) {
    if (!mask.defined()) return;
    const auto fits = [&](int64_t d, int64_t size) { return mask.size(d) == 1 || mask.size(d) == size; };
    TORCH_CHECK(mask.device().is_cpu() && mask.layout() == at::kStrided && mask.scalar_type() == at::kFloat && mask.dim() == 4 && fits(0, z.batch) &&
                    fits(1, z.heads) && mask.size(2) == z.queries && mask.size(3) == z.keys && !mask.requires_grad(),
                op, " expects a float32 mask [1 or ", z.batch, ", 1 or ", z.heads, ", ", z.queries, ", ", z.keys, "] on the CPU without gradient, got ",
                mask.sizes(), " of ", mask.scalar_type());
}

void expectBias(const char* op, const Optional<Tensor>& bias, int64_t size) {
    if (!bias.has_value() || !bias->defined()) return;
    TORCH_CHECK(bias->device().is_cpu() && bias->scalar_type() == at::kFloat && bias->dim() == 1 && bias->size(0) == size, op, " expects a float32 bias of ",
                size, ", got ", bias->sizes(), " of ", bias->scalar_type());
}

Tensor attention(const Tensor& qkv, const Optional<Tensor>& bias, const Optional<Tensor>& mask, int64_t heads, double scale) {
    const char* op = "tessera::attention";
    TORCH_CHECK(qkv.device().is_cpu() && qkv.layout() == at::kStrided && qkv.scalar_type() == at::kBFloat16 && qkv.dim() == 3 && qkv.numel() > 0, op,
                " expects qkv as a bfloat16 tensor [B, N, 3 C] on the CPU, got ", qkv.sizes(), " of ", qkv.scalar_type());
    TORCH_CHECK(heads > 0 && qkv.size(2) % (3 * heads) == 0, op, " expects heads that divide ", qkv.size(2), " / 3, got ", heads);
    const int64_t width = qkv.size(2) / 3;
    expectBias(op, bias, 3 * width);
    if (mask.has_value()) expectMask(op, *mask, Sizes(qkv.size(0), qkv.size(1), qkv.size(1), heads, width / heads));
    return AttentionFunction::apply(qkv, bias, mask, heads, scale);
}

Tensor crossAttention(const Tensor& q, const Tensor& k, const Tensor& v, const Optional<Tensor>& qBias, const Optional<Tensor>& vBias,
                      const Optional<Tensor>& mask, int64_t heads, double scale) {
    const char* op = "tessera::cross_attention";
    const auto expectTokens = [&](const char* name, const Tensor& x) {
        TORCH_CHECK(x.device().is_cpu() && x.layout() == at::kStrided && x.scalar_type() == at::kBFloat16 && x.dim() == 3 && x.numel() > 0 &&
                        x.size(0) == q.size(0) && x.size(2) == q.size(2),
                    op, " expects ", name, " as a bfloat16 tensor [B, N, C] on the CPU, of q's B and C, got ", x.sizes(), " of ", x.scalar_type());
    };
    TORCH_CHECK(q.dim() == 3, op, " expects q as a bfloat16 tensor [B, N, C] on the CPU, got ", q.sizes(), " of ", q.scalar_type());
    expectTokens("q", q);
    expectTokens("k", k);
    expectTokens("v", v);
    TORCH_CHECK(k.size(1) == v.size(1), op, " expects as many values as keys, ", k.size(1), ", got ", v.size(1));
    TORCH_CHECK(heads > 0 && q.size(2) % heads == 0, op, " expects heads that divide ", q.size(2), ", got ", heads);
    expectBias(op, qBias, q.size(2));
    expectBias(op, vBias, q.size(2));
    if (mask.has_value()) expectMask(op, *mask, Sizes(q.size(0), q.size(1), k.size(1), heads, q.size(2) / heads));
    return CrossAttentionFunction::apply(q, k, v, qBias, vBias, mask, heads, scale);
}

}  // namespace

void registerAttention() {
    if (!hasHalfProducts()) return;
    registerOperator("cross_attention",
                     "cross_attention(Tensor q, Tensor k, Tensor v, Tensor? q_bias, Tensor? v_bias, Tensor? mask, int heads, float scale) -> Tensor", crossAttention);
    registerOperator("attention", "attention(Tensor qkv, Tensor? bias, Tensor? mask, int heads, float scale) -> Tensor", attention);
}

}  // namespace tessera
