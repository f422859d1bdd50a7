// x W^T in bfloat16 from float32 weights, whose gradient is summed up in float32. Forward and the gradient of x are products like others
// (matmul.cpp); libtorch's for the gradient of W (a transposed matrix times another) reaches a third to three quarters of their speed, so that one is
// made here: both matrices are packed a stretch of rows at a time as a micro-kernel wants them, libtorch's (products.h) or ours.
#include "fused.h"
#include "linear.h"
#include "products.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include <mutex>
#include <unordered_map>

namespace tessera {

namespace {

using at::Tensor;
using kernels::kTileDepth;
using kernels::kTileRows;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows that are packed at a time, or half as many more, and outputs and inputs of one product: both packed parts of it fit a core's own cache. Without
// tiles long sums of few numbers are faster by a twentieth.
struct Blocks {
    int64_t rows, outs, ins;
};
Blocks blocksOfHalves() { return hasTiles() ? Blocks{512, 192, 192} : Blocks{1024, 64, 128}; }

constexpr int64_t kLeastRows = 1024;  // of a share
constexpr int64_t kApart = 32;        // between packed rows: without it they would lie on a few of a cache's lines

struct Range {
    int64_t begin, end;
};

// Part `each` of `parts`, all but the last a multiple of 32.
Range partOf(int64_t size, int64_t parts, int64_t each) {
    const int64_t part = rounded((size + parts - 1) / parts, 32);
    return {std::min(size, each * part), std::min(size, (each + 1) * part)};
}

// Rows that are packed at a time, in stretches of equal length: a short one at the end would take as many sums from memory and back as a long one.
int64_t stretchOf(Range rows, int64_t stretches) {
    stretches = std::max<int64_t>(1, stretches);
    return rounded((rows.end - rows.begin + stretches - 1) / stretches, 32);
}

// grads [out][in] = outGrad^T x and biasGrad [out] = the sums of outGrad's columns (null: not wanted), over some rows and for some of the outputs.
void halfGradient(const Tensor& outGrad, const Tensor& x, Range rows, Range outs, float* grads, float* biasGrad) {
    const auto& k = kernels::table();
    const Blocks block = blocksOfHalves();
    const int64_t out = outGrad.size(1), in = x.size(1), size = outs.end - outs.begin;
    const int64_t stretch = stretchOf(rows, (rows.end - rows.begin + block.rows / 2) / block.rows), apart = stretch + kApart;
    // Of the narrower matrix the whole stretch is packed and meets one packed block of the other after another: packed as a whole, the wider one would
    // not stay in a core's own cache, which costs a layer with four times the inputs a tenth.
    const bool fewerOuts = size < in;
    const int64_t packedOuts = fewerOuts ? size : block.outs, packedIns = fewerOuts ? block.ins : in;
    Scratch scratch(2 * (rounded(packedIns, 16) * stretch + rounded(packedOuts, 32) * apart));
    uint32_t* pairs = scratch.take<uint32_t>(rounded(packedIns, 16) * stretch / 2);
    Bf16* transposed = scratch.take<Bf16>(rounded(packedOuts, 32) * apart);
    const auto pairsOf = [&](int64_t at) { return pairs + (fewerOuts ? 0 : at * stretch / 2); };
    const auto transposedOf = [&](int64_t from) { return transposed + (fewerOuts ? (from - outs.begin) * apart : 0); };
    const auto outsOf = [&](int64_t from) { return std::min(block.outs, outs.end - from); };
    const auto insOf = [&](int64_t at) { return std::min(block.ins, in - at); };
    const auto eachOut = [&](auto&& use) {
        for (int64_t from = outs.begin; from < outs.end; from += block.outs) use(from);
    };
    const auto eachIn = [&](auto&& use) {
        for (int64_t at = 0; at < in; at += block.ins) use(at);
    };
    for (int64_t row = rows.begin; row < rows.end; row += stretch) {
        const int64_t count = std::min(stretch, rows.end - row), padded = rounded(count, 32);
        const auto pair = [&](int64_t at) { k.pairRows(bits(x) + row * in + at, in, count, insOf(at), padded, pairsOf(at)); };
        const auto transpose = [&](int64_t from) {
            k.transposePairs(bits(outGrad) + row * out + from, out, count, outsOf(from), apart, nullptr, transposedOf(from));
            if (biasGrad) k.rowSums(transposedOf(from), outsOf(from), apart, biasGrad + from);
        };
        const auto multiplyBlocks = [&](int64_t from, int64_t at) {
            multiply(outsOf(from), insOf(at), padded, transposedOf(from), apart, pairsOf(at), rounded(insOf(at), 16), grads + from * in + at, in, row > rows.begin);
        };
        if (fewerOuts) {
            eachOut(transpose);
            eachIn([&](int64_t at) {
                pair(at);
                eachOut([&](int64_t from) { multiplyBlocks(from, at); });
            });
        } else {
            eachIn(pair);
            eachOut([&](int64_t from) {
                transpose(from);
                eachIn([&](int64_t at) { multiplyBlocks(from, at); });
            });
        }
    }
    releaseProducts();
}

// The same, widened and on our micro-kernel for float32.
void widenedGradient(const Tensor& outGrad, const Tensor& x, Range rows, Range outs, float* grads, float* biasGrad) {
    const auto& k = kernels::table();
    const int64_t out = outGrad.size(1), in = x.size(1), panel = k.panelColumns;
    const int64_t stretch = stretchOf(rows, (rows.end - rows.begin + kTileDepth - 1) / kTileDepth);
    Scratch scratch(4 * (rounded(in, panel) * stretch + kTileRows * rounded(stretch, panel)));
    float* right = scratch.take<float>(rounded(in, panel) * stretch);
    float* left = scratch.take<float>(kTileRows * rounded(stretch, panel));
    for (int64_t row = rows.begin; row < rows.end; row += stretch) {
        const int64_t count = std::min(stretch, rows.end - row);
        // A few panels at a time: more would fall on the same lines of a cache.
        for (int64_t at = 0; at < in; at += 4 * panel)
            k.copyPanels[kernels::kHalf]({{bits(x) + row * in + at, in}, nullptr, 1.0f, count, std::min(4 * panel, in - at), 0, right + at * count});
        for (int64_t from = outs.begin; from < outs.end; from += kTileRows) {
            const int64_t size = std::min(kTileRows, outs.end - from);
            const Bf16* grad = bits(outGrad) + row * out + from;
            for (int64_t r = 0; r < count; r += panel)
                k.transposePanel[kernels::kHalf](grad + r * out, out, size, std::min(panel, count - r), left + r * size);
            if (biasGrad) k.columnSums(grad, out, count, size, biasGrad + from);
            k.multiplyPanels({size, in, count, {left, panel, panel, size * panel}, right, count * panel, {grads + from * in, in, panel, panel}, row > rows.begin});
        }
    }
}

void weightGradient(const Tensor& outGrad, const Tensor& x, Range rows, Range outs, float* grads, float* biasGrad) {
    if (biasGrad) std::fill(biasGrad + outs.begin, biasGrad + outs.end, 0.0f);
    (kernels::table().widensHalves ? widenedGradient : halfGradient)(outGrad, x, rows, outs, grads, biasGrad);
}

// The same over all rows and outputs. Each thread takes a share of the rows and never waits for another; their sums are added up at the end. Of few
// rows that would be most of the work: then threads share the outputs.
void weightGradient(const Tensor& outGrad, const Tensor& x, float* grads, float* biasGrad) {
    const int64_t rows = x.size(0), out = outGrad.size(1), size = out * x.size(1), threads = at::get_num_threads();
    const int64_t shares = std::clamp<int64_t>(rows / kLeastRows, 1, threads), parts = std::clamp<int64_t>(threads / shares, 1, (out + 31) / 32);
    const Tensor others = at::empty({(shares - 1) * (size + out)}, at::kFloat);
    float* other = static_cast<float*>(others.data_ptr());
    const auto gradsOf = [&](int64_t share) { return share == 0 ? grads : other + (share - 1) * (size + out); };
    const auto biasOf = [&](int64_t share) { return !biasGrad ? nullptr : share == 0 ? biasGrad : gradsOf(share) + size; };
    at::parallel_for(0, shares * parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t share = i / parts;
            const Range outs = partOf(out, parts, i % parts);
            if (outs.begin < outs.end) weightGradient(outGrad, x, partOf(rows, shares, share), outs, gradsOf(share), biasOf(share));
        }
    });
    if (shares == 1) return;
    at::parallel_for(0, size, 1 << 14, [&](int64_t begin, int64_t end) {
        for (int64_t share = 1; share < shares; ++share)
            for (int64_t i = begin; i < end; ++i) grads[i] += gradsOf(share)[i];
    });
    for (int64_t share = 1; biasGrad && share < shares; ++share)
        for (int64_t i = 0; i < out; ++i) biasGrad[i] += biasOf(share)[i];
}

// Weights in bfloat16. Passes through the same layer share one, for as long as one of them holds it for its gradient and the weight is not changed.
class Halves {
public:
    Tensor of(const Tensor& weight) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found = kept_.find(weight.unsafeGetTensorImpl());
        const int64_t version = weight._version();
        if (found != kept_.end() && found->second.version == version) {
            if (auto half = found->second.half.lock()) return Tensor(std::move(half));
        }
        if (found == kept_.end() && kept_.size() >= limit_) dropUnheld();
        const Tensor half = weight.to(at::kBFloat16);
        kept_.insert_or_assign(weight.unsafeGetTensorImpl(), Kept{Weak(weight.getIntrusivePtr()), Weak(half.getIntrusivePtr()), version});
        return half;
    }

private:
    using Weak = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;
    struct Kept {
        Weak weight;  // while it is there no other tensor has its address
        Weak half;
        int64_t version;
    };

    void dropUnheld() {
        for (auto each = kept_.begin(); each != kept_.end();) each = each->second.half.expired() ? kept_.erase(each) : std::next(each);
        limit_ = std::max<size_t>(64, 2 * kept_.size());
    }

    std::mutex mutex_;
    std::unordered_map<c10::TensorImpl*, Kept> kept_;
    size_t limit_ = 64;
};

}  // namespace

Tensor halfOf(const Tensor& weight) {
    static Halves halves;
    return halves.of(weight);
}

std::pair<Tensor, Tensor> linearGradients(const Tensor& outGrad, const Tensor& rows, bool biased) {
    RECORD_FUNCTION("tessera::weight_gradient", std::vector<c10::IValue>({outGrad, rows}));
    const Tensor grads = at::empty({outGrad.size(1), rows.size(1)}, at::kFloat), biasGrad = biased ? at::empty({outGrad.size(1)}, at::kFloat) : Tensor();
    if (rows.size(0) > 0) {
        weightGradient(outGrad, rows, floats(grads), floats(biasGrad));
    } else {
        grads.zero_();
        if (biased) biasGrad.zero_();
    }
    return {grads, biasGrad};
}

void expectWeight(const char* op, const Tensor& weight, int64_t in) {
    TORCH_CHECK(isFloat(weight) && weight.dim() == 2 && weight.size(1) == in && weight.size(0) > 0, op, " expects a float32 weight [out, ", in, "], got ",
                weight.sizes(), " of ", weight.scalar_type());
}

bool hasHalfLinear() { return kernels::table().widensHalves || hasHalfProducts(); }

namespace {

struct LinearFunction : torch::autograd::Function<LinearFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Optional<Tensor>& bias) {
        const Tensor from = x.contiguous(), half = halfOf(weight);
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
        const bool biased = ctx->saved_data["biased"].toBool();  // without a bias there is no third input to ask about
        if (!ctx->needs_input_grad(1) && !(biased && ctx->needs_input_grad(2))) return {xGrad, Tensor(), Tensor()};
        auto [grads, biasGrad] = linearGradients(outGrad, rows, biased);
        return {xGrad, grads, biasGrad};
    }
};

Tensor linear(const Tensor& x, const Tensor& weight, const Optional<Tensor>& bias) {
    const char* op = "tessera::linear";
    TORCH_CHECK(x.device().is_cpu() && x.layout() == at::kStrided && x.scalar_type() == at::kBFloat16 && x.dim() > 0 && x.size(-1) > 0, op,
                " expects x as a bfloat16 tensor on the CPU, got ", x.sizes(), " of ", x.scalar_type());
    expectWeight(op, weight, x.size(-1));
    if (bias.has_value() && bias->defined())
        TORCH_CHECK(bias->device().is_cpu() && bias->layout() == at::kStrided && bias->scalar_type() == at::kFloat && bias->dim() == 1 && bias->size(0) == weight.size(0), op,
                    " expects a float32 bias of ", weight.size(0), ", got ", bias->sizes(), " of ", bias->scalar_type());
    return LinearFunction::apply(x, weight, bias);
}

}  // namespace

void registerLinear() {
    if (!hasHalfLinear()) return;
    registerOperator("linear", "linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor", linear);
}

}  // namespace tessera
