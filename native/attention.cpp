// Attention without its weights in memory: for each head scores, softmax and products follow one another in the cache, and backward makes the scores
// again (FlashAttention's idea; Dao et al. 2022). In bfloat16 on libtorch's micro-kernel where it has one, else in float32 on ours.
#include "attention.h"
#include "products.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Sizes = AttentionSizes;
using Inputs = AttentionInputs;

const AttentionLoops& loopsFor(at::ScalarType type) {
    return type == at::kBFloat16 && hasHalfProducts() ? kAttentionHalf : kAttentionFloat;
}

Sizes sizesOf(const Tensor& q, const Tensor& k, int64_t width, int64_t heads) {
    return {q.size(0), q.size(1), k.size(1), heads, width / heads, loopsFor(q.scalar_type()).padded(q.size(1))};
}

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
        in.qBias = floats(bias);
        in.kBias = in.qBias + width;
        in.vBias = in.kBias + width;
    }
    return in;
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& qkv, const Optional<Tensor>& bias, const Optional<Tensor>& mask, int64_t heads, double scale) {
        const Tensor from = qkv.contiguous(), b = contiguous(orUndefined(bias)), m = contiguous(orUndefined(mask));
        const int64_t width = from.size(2) / 3;
        const Sizes z = sizesOf(from, from, width, heads);
        const Tensor out = at::empty({z.batch, z.queries, width}, from.options()), logSums = emptyLogSums(z);
        loopsFor(from.scalar_type()).forward({z, partsOf(from, b), m, static_cast<float>(scale), out, floats(logSums)});
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
        const Sizes z = sizesOf(qkv, qkv, width, heads);
        const Tensor outGrad = given[0].contiguous(), grad = at::empty(qkv.sizes(), qkv.options());
        const Columns biasGrads(1, bias.defined() ? 3 * width : 0);
        loopsFor(qkv.scalar_type())
            .backward({z, partsOf(qkv, bias), across(mask, z), static_cast<float>(ctx->saved_data["scale"].toDouble()), ctx->saved_data["out"].toTensor(),
                       outGrad, floats(logSums), partsOf(grad, Tensor()), bias.defined() ? floats(biasGrads.all) : nullptr});
        return {grad, bias.defined() ? biasGrads.sum()[0] : Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

// As above for queries, keys and values [B, n or m, C] that are products of their own; keys have no bias, which would change no softmax.
struct CrossAttentionFunction : torch::autograd::Function<CrossAttentionFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& queries, const Tensor& keys, const Tensor& values, const Optional<Tensor>& qBias,
                          const Optional<Tensor>& vBias, const Optional<Tensor>& mask, int64_t heads, double scale) {
        const Tensor q = rowsTogether(queries), k = rowsTogether(keys), v = rowsTogether(values);
        const Tensor ofQ = contiguous(orUndefined(qBias)), ofV = contiguous(orUndefined(vBias)), m = contiguous(orUndefined(mask));
        const Sizes z = sizesOf(q, k, q.size(2), heads);
        const Tensor out = at::empty({z.batch, z.queries, z.width()}, q.options()), logSums = emptyLogSums(z);
        loopsFor(q.scalar_type()).forward({z, {q, k, v, floats(ofQ), nullptr, floats(ofV)}, m, static_cast<float>(scale), out, floats(logSums)});
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
        const Sizes z = sizesOf(q, k, width, heads);
        const Tensor outGrad = given[0].contiguous();
        const Inputs grads{at::empty(q.sizes(), q.options()), at::empty(k.sizes(), k.options()), at::empty(v.sizes(), v.options())};
        const bool biased = qBias.defined() || vBias.defined();
        const Columns biasGrads(3, biased ? width : 0);
        loopsFor(q.scalar_type())
            .backward({z, {q, k, v, floats(qBias), nullptr, floats(vBias)}, across(mask, z), static_cast<float>(ctx->saved_data["scale"].toDouble()),
                       ctx->saved_data["out"].toTensor(), outGrad, floats(logSums), grads, biased ? floats(biasGrads.all) : nullptr});
        const auto sums = biasGrads.sum();
        return {grads.q, grads.k, grads.v, qBias.defined() ? sums[0] : Tensor(), vBias.defined() ? sums[2] : Tensor(), Tensor(), Tensor(), Tensor()};
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
    TORCH_CHECK(isValue(qkv) && qkv.dim() == 3 && qkv.numel() > 0, op, " expects qkv as a float32 or bfloat16 tensor [B, N, 3 C] on the CPU, got ", qkv.sizes(), " of ", qkv.scalar_type());
    TORCH_CHECK(heads > 0 && qkv.size(2) % (3 * heads) == 0, op, " expects heads that divide ", qkv.size(2), " / 3, got ", heads);
    const int64_t width = qkv.size(2) / 3;
    expectBias(op, bias, 3 * width);
    if (mask.has_value()) expectMask(op, *mask, sizesOf(qkv, qkv, width, heads));
    return AttentionFunction::apply(qkv, bias, mask, heads, scale);
}

Tensor crossAttention(const Tensor& q, const Tensor& k, const Tensor& v, const Optional<Tensor>& qBias, const Optional<Tensor>& vBias,
                      const Optional<Tensor>& mask, int64_t heads, double scale) {
    const char* op = "tessera::cross_attention";
    const auto expectTokens = [&](const char* name, const Tensor& x) {
        TORCH_CHECK(isValue(x) && x.scalar_type() == q.scalar_type() && x.dim() == 3 && x.numel() > 0 && x.size(0) == q.size(0) && x.size(2) == q.size(2), op,
                    " expects ", name, " as a float32 or bfloat16 tensor [B, N, C] on the CPU, of q's type, B and C, got ", x.sizes(), " of ", x.scalar_type());
    };
    TORCH_CHECK(q.dim() == 3, op, " expects q as a float32 or bfloat16 tensor [B, N, C] on the CPU, got ", q.sizes(), " of ", q.scalar_type());
    expectTokens("q", q);
    expectTokens("k", k);
    expectTokens("v", v);
    TORCH_CHECK(k.size(1) == v.size(1), op, " expects as many values as keys, ", k.size(1), ", got ", v.size(1));
    TORCH_CHECK(heads > 0 && q.size(2) % heads == 0, op, " expects heads that divide ", q.size(2), ", got ", heads);
    expectBias(op, qBias, q.size(2));
    expectBias(op, vBias, q.size(2));
    if (mask.has_value()) expectMask(op, *mask, sizesOf(q, k, q.size(2), heads));
    return CrossAttentionFunction::apply(q, k, v, qBias, vBias, mask, heads, scale);
}

}  // namespace

void registerAttention() {
    if (!kernels::table().strip) return;
    registerOperator("cross_attention",
                     "cross_attention(Tensor q, Tensor k, Tensor v, Tensor? q_bias, Tensor? v_bias, Tensor? mask, int heads, float scale) -> Tensor", crossAttention);
    registerOperator("attention", "attention(Tensor qkv, Tensor? bias, Tensor? mask, int heads, float scale) -> Tensor", attention);
}

}  // namespace tessera
