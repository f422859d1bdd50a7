// x W^T in bfloat16 from float32 weights, whose gradient is summed up in float32. Forward and the gradient of x are libtorch's products; its product
// for the gradient of W (a transposed matrix times another) reaches a third to a half of their speed, so that one is made here: both
// matrices are packed a stretch of rows at a time as the micro-kernel wants them.
#include "fused.h"
#include "products.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {

#ifdef TESSERA_HALF_PRODUCTS

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kStretch = 1024;     // rows that are packed at a time
constexpr int64_t kOutOfBlock = 192;   // outputs and inputs of one product: both packed parts of it fit a core's own cache
constexpr int64_t kInOfBlock = 192;
constexpr int64_t kLeastOutOfBlock = 64;

// grads [out][in] = outGrad^T x, biasGrad [out] = the sums of outGrad's columns (null: not wanted); both of `rows` rows.
void weightGradient(const Tensor& outGrad, const Tensor& x, float* grads, float* biasGrad) {
    const auto& k = kernels::table();
    const int64_t rows = x.size(0), out = outGrad.size(1), in = x.size(1);
    const int64_t stretch = std::min(kStretch, rounded(rows, 32)), blocksIn = (in + kInOfBlock - 1) / kInOfBlock;
    // Every thread gets one, where there are so many outputs.
    const int64_t outOfBlock = std::clamp(rounded(out / at::get_num_threads(), 32), kLeastOutOfBlock, kOutOfBlock), blocksOut = (out + outOfBlock - 1) / outOfBlock;
    const Tensor packed = at::empty({blocksIn * kInOfBlock * stretch}, x.options());
    uint32_t* pairs = reinterpret_cast<uint32_t*>(packed.data_ptr());
    if (biasGrad) std::fill(biasGrad, biasGrad + out, 0.0f);
    for (int64_t row = 0; row < rows; row += stretch) {
        const int64_t count = std::min(stretch, rows - row), padded = rounded(count, 32);
        const auto pairsOf = [&](int64_t block) { return pairs + block * kInOfBlock * stretch / 2; };
        at::parallel_for(0, blocksIn, 1, [&](int64_t begin, int64_t end) {
            for (int64_t block = begin; block < end; ++block) {
                const int64_t from = block * kInOfBlock;
                k.pairRows({bits(x) + row * in + from, in}, count, std::min(kInOfBlock, in - from), padded, pairsOf(block));
            }
        });
        at::parallel_for(0, blocksOut, 1, [&](int64_t begin, int64_t end) {
            Scratch scratch(2 * outOfBlock * padded);
            Bf16* transposed = scratch.take<Bf16>(outOfBlock * padded);
            for (int64_t block = begin; block < end; ++block) {
                const int64_t from = block * outOfBlock, size = std::min(outOfBlock, out - from);
                k.transposePairs({bits(outGrad) + row * out + from, out}, count, size, padded, nullptr, transposed);
                if (biasGrad) k.rowSums(transposed, size, padded, biasGrad + from);
                for (int64_t other = 0; other < blocksIn; ++other) {
                    const int64_t at = other * kInOfBlock, width = std::min(kInOfBlock, in - at);
                    multiply(size, width, padded, transposed, padded, pairsOf(other), rounded(width, 16), grads + from * in + at, in, row > 0);
                }
            }
            releaseProducts();
        });
    }
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Optional<Tensor>& bias) {
        const Tensor from = x.contiguous(), half = weight.to(at::kBFloat16);
        const bool biased = bias.has_value() && bias->defined();
        ctx->save_for_backward({from, half});
        ctx->saved_data["biased"] = biased;
        return at::linear(from, half, biased ? Optional<Tensor>(bias->to(at::kBFloat16)) : bias);
    }

    static variable_list backward(AutogradContext* ctx, variable_list given) {
        refuseSecondOrder("tessera::linear");
        const auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &half = saved[1];
        const int64_t in = half.size(1), out = half.size(0);
        const Tensor outGrad = given[0].contiguous().view({-1, out}), rows = x.view({-1, in});
        const Tensor xGrad = ctx->needs_input_grad(0) ? outGrad.mm(half).view(x.sizes()) : Tensor();
        if (!ctx->needs_input_grad(1) && !ctx->needs_input_grad(2)) return {xGrad, Tensor(), Tensor()};
        RECORD_FUNCTION("tessera::weight_gradient", std::vector<c10::IValue>({outGrad, rows}));
        const Tensor grads = at::empty({out, in}, at::kFloat);
        const Tensor biasGrad = ctx->saved_data["biased"].toBool() ? at::empty({out}, at::kFloat) : Tensor();
        weightGradient(outGrad, rows, static_cast<float*>(grads.data_ptr()), biasGrad.defined() ? static_cast<float*>(biasGrad.data_ptr()) : nullptr);
        return {xGrad, grads, biasGrad};
    }
};

Tensor linear(const Tensor& x, const Tensor& weight, const Optional<Tensor>& bias) {
    const char* op = "tessera::linear";
    TORCH_CHECK(x.device().is_cpu() && x.layout() == at::kStrided && x.scalar_type() == at::kBFloat16 && x.dim() > 0 && x.numel() > 0, op,
                " expects x as a bfloat16 tensor on the CPU, got ", x.sizes(), " of ", x.scalar_type());
    TORCH_CHECK(weight.device().is_cpu() && weight.layout() == at::kStrided && weight.scalar_type() == at::kFloat && weight.dim() == 2 &&
                    weight.size(1) == x.size(-1) && weight.size(0) > 0,
                op, " expects a float32 weight [out, ", x.size(-1), "], got ", weight.sizes(), " of ", weight.scalar_type());
    if (bias.has_value() && bias->defined())
        TORCH_CHECK(bias->device().is_cpu() && bias->layout() == at::kStrided && bias->scalar_type() == at::kFloat && bias->dim() == 1 && bias->size(0) == weight.size(0), op,
                    " expects a float32 bias of ", weight.size(0), ", got ", bias->sizes(), " of ", bias->scalar_type());
    return LinearFunction::apply(x, weight, bias);
}

}  // namespace

void registerLinear() {
    // Without AMX libtorch's own product is as fast, 5 to 10 % faster.
    if (!at::native::cpublas::could_pack(at::kBFloat16)) return;
    registerOperator("linear", "linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor", linear);
}

#else

void registerLinear() {}

#endif

}  // namespace tessera
