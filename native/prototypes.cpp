// What a projection head of many outputs ("prototypes") costs beside its matrix product: rows scaled to a length, and cross-entropies with
// distributions over all outputs. With 65,536 of them libtorch's operators read and write tens of megabytes a dozen times over.
#include "fused.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// ---- rows of given lengths -----------------------------------------------------------------------------------------------

struct WeightNormFunction : torch::autograd::Function<WeightNormFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& v, const Tensor& g, bool half) {
        const int64_t rows = v.size(0), width = v.size(1);
        const Tensor from = v.contiguous(), lengths = g.contiguous(), norms = at::empty({rows}, at::kFloat);
        const Tensor out = at::empty(v.sizes(), from.options().dtype(half ? at::kBFloat16 : at::kFloat));
        const kernels::WeightNorm args{width, floats(from), floats(lengths), data(out), floats(norms)};
        const auto run = kernels::table().weightNorm[typeOf(out)];
        overRows(rows, width, [&](int64_t begin, int64_t end) { run(args, begin, end); });
        ctx->save_for_backward({from, lengths, norms});
        return out;
    }

    static variable_list backward(AutogradContext* ctx, variable_list grads) {
        refuseSecondOrder("tessera::weight_norm");
        const auto saved = ctx->get_saved_variables();
        const Tensor &v = saved[0], &g = saved[1], &norms = saved[2];
        RECORD_FUNCTION("tessera::weight_norm_backward", std::vector<c10::IValue>{v});
        const Tensor outGrad = grads[0].contiguous(), vGrad = at::empty(v.sizes(), v.options()), gGrad = at::empty(g.sizes(), g.options());
        const int64_t rows = v.size(0), width = v.size(1);
        const kernels::WeightNormBackward args{width, floats(v), floats(g), floats(norms), data(outGrad), floats(vGrad), floats(gGrad)};
        const auto run = kernels::table().weightNormBackward[typeOf(outGrad)];
        overRows(rows, width, [&](int64_t begin, int64_t end) { run(args, begin, end); });
        return {vGrad, gGrad, Tensor()};
    }
};

Tensor weightNorm(const Tensor& v, const Tensor& g, bool half) {
    const char* op = "tessera::weight_norm";
    TORCH_CHECK(isFloat(v) && v.dim() == 2, op, " expects v as a float32 matrix on the CPU, got ", v.sizes(), " of ",
                v.scalar_type(), " on ", v.device());
    TORCH_CHECK(isFloat(g) && g.dim() == 2 && g.size(0) == v.size(0) && g.size(1) == 1, op,
                " expects g as a float32 column of ", v.size(0), " on the CPU, got ", g.sizes(), " of ", g.scalar_type());
    return WeightNormFunction::apply(v, g, half);
}

// ---- cross-entropies -----------------------------------------------------------------------------------------------------

// logits [V, B, K] and distributions [T, B, K]: runs `use` for each view of each sample, the views of one sample on one thread, which has
// that sample's distributions in its cache.
template <class Use>
void overViews(const Tensor& logits, const Tensor& targets, at::ArrayRef<double> pairs, double scale, Use use) {
    const int64_t views = logits.size(0), samples = logits.size(1), width = logits.size(2), teachers = targets.size(0);
    const auto* from = static_cast<const char*>(logits.data_ptr());
    at::parallel_for(0, samples, 1, [&](int64_t begin, int64_t end) {
        std::vector<const float*> each(teachers);
        std::vector<float> weights(teachers);
        for (int64_t sample = begin; sample < end; ++sample)
            for (int64_t view = 0; view < views; ++view) {
                int64_t count = 0;
                float sum = 0;
                for (int64_t t = 0; t < teachers; ++t) {
                    const float weight = static_cast<float>(pairs[view * teachers + t]);
                    if (weight == 0) continue;
                    each[count] = floats(targets) + (t * samples + sample) * width;
                    weights[count++] = weight;
                    sum += weight;
                }
                const int64_t row = view * samples + sample;
                use(row, kernels::PairedEntropy{width, from + row * width * logits.element_size(), static_cast<float>(scale), each.data(), weights.data(), count, sum});
            }
    });
}

struct PairedEntropyFunction : torch::autograd::Function<PairedEntropyFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& logits, const Tensor& targets, at::ArrayRef<double> pairs, double temperature) {
        const Tensor from = logits.contiguous(), teachers = targets.contiguous();
        const Tensor out = at::empty({logits.size(0), logits.size(1)}, at::kFloat), logSums = at::empty_like(out);
        const auto run = kernels::table().pairedEntropy[typeOf(from)];
        overViews(from, teachers, pairs, 1 / temperature,
                  [&](int64_t row, const kernels::PairedEntropy& each) { floats(out)[row] = run(each, floats(logSums) + row); });
        ctx->save_for_backward({from, teachers, logSums});
        ctx->saved_data["pairs"] = std::vector<double>(pairs.begin(), pairs.end());
        ctx->saved_data["temperature"] = temperature;
        return out;
    }

    static variable_list backward(AutogradContext* ctx, variable_list grads) {
        refuseSecondOrder("tessera::paired_cross_entropy");
        const auto saved = ctx->get_saved_variables();
        const Tensor &logits = saved[0], &targets = saved[1], &logSums = saved[2];
        RECORD_FUNCTION("tessera::paired_cross_entropy_backward", std::vector<c10::IValue>{logits});
        const Tensor outGrad = grads[0].contiguous(), out = at::empty(logits.sizes(), logits.options());
        const auto pairs = ctx->saved_data["pairs"].toDoubleVector();
        const auto run = kernels::table().pairedEntropyBackward[typeOf(logits)];
        auto* to = static_cast<char*>(data(out));
        overViews(logits, targets, pairs, 1 / ctx->saved_data["temperature"].toDouble(), [&](int64_t row, const kernels::PairedEntropy& each) {
            run(each, floats(logSums)[row], floats(outGrad)[row], to + row * each.width * out.element_size());
        });
        return {out, Tensor(), Tensor(), Tensor()};
    }
};

Tensor pairedCrossEntropy(const Tensor& logits, const Tensor& targets, at::ArrayRef<double> pairs, double temperature) {
    const char* op = "tessera::paired_cross_entropy";
    expectValues(op, "logits", logits);
    TORCH_CHECK(logits.dim() == 3 && logits.size(2) > 0, op, " expects logits [views, samples, classes], got ", logits.sizes());
    TORCH_CHECK(isFloat(targets) && targets.dim() == 3 && targets.size(1) == logits.size(1) && targets.size(2) == logits.size(2), op,
                " expects targets as float32 [teachers, ", logits.size(1), ", ", logits.size(2), "] on the CPU, got ", targets.sizes(), " of ", targets.scalar_type());
    TORCH_CHECK(!targets.requires_grad(), op, " takes targets as they are: they have no gradient");
    TORCH_CHECK(static_cast<int64_t>(pairs.size()) == logits.size(0) * targets.size(0), op, " expects a weight for each of ", logits.size(0), " views and ",
                targets.size(0), " targets, got ", pairs.size());
    TORCH_CHECK(temperature > 0, op, " expects a temperature above 0, got ", temperature);
    return PairedEntropyFunction::apply(logits, targets, pairs, temperature);
}

}  // namespace

void registerPrototypes() {
    registerOperator("weight_norm", "weight_norm(Tensor v, Tensor g, bool half) -> Tensor", weightNorm);
    registerOperator("paired_cross_entropy", "paired_cross_entropy(Tensor logits, Tensor targets, float[] pairs, float temperature) -> Tensor", pairedCrossEntropy);
}

}  // namespace tessera
