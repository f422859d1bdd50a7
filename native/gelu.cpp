// GELU with the bias before it in one pass over memory, and together with the linear layer after it: then what comes out of GELU, the widest tensor of
// a transformer's block, is not kept for the backward pass. It is made again there from what came in, a piece at a time with GELU's own gradient.
#include "fused.h"
#include "linear.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// gelu(x + bias) of contiguous tensors.
Tensor activated(const Tensor& x, const Tensor& bias) {
    const int64_t width = x.size(-1), rows = rowsOf(x);
    const Tensor out = at::empty(x.sizes(), x.options());
    const kernels::BiasGelu args{width, data(x), floats(bias), data(out)};
    const auto run = kernels::table().biasGelu[typeOf(x)];
    overRows(rows, width, [&](int64_t begin, int64_t end) { run(args, begin, end); });
    return out;
}

// From the gradient of gelu(x + bias) to that of x, which may have its memory, and of the bias if there is one. Where `again` is defined gelu(x + bias)
// is written to it.
Tensor slopes(const Tensor& x, const Tensor& bias, const Tensor& outGrad, const Tensor& xGrad, const Tensor& again) {
    RECORD_FUNCTION("tessera::bias_gelu_backward", std::vector<c10::IValue>{x});
    const int64_t width = x.size(-1), rows = rowsOf(x);
    const Columns shared(1, width);
    const kernels::BiasGelu args{width, data(x), floats(bias), data(again)};
    const auto activate = kernels::table().biasGelu[typeOf(x)];
    const auto run = kernels::table().biasGeluBackward[typeOf(x)];
    overRows(rows, width, [&](int64_t begin, int64_t end) {
        // A piece of x stays in a core's cache from the one to the other.
        const int64_t piece = rowsOfPiece(width);
        for (int64_t row = begin; row < end; row += piece) {
            const int64_t next = std::min(end, row + piece);
            if (again.defined()) activate(args, row, next);
            run({width, data(x), floats(bias), data(outGrad), data(xGrad), bias.defined() ? shared.of(0) : nullptr}, row, next);
        }
    });
    return bias.defined() ? shared.sum()[0] : Tensor();
}

// ---- GELU alone ----------------------------------------------------------------------------------------------------------

struct BiasGeluFunction : torch::autograd::Function<BiasGeluFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Optional<Tensor>& bias) {
        const Tensor from = x.contiguous(), b = contiguous(orUndefined(bias));
        ctx->save_for_backward({from, b});
        return activated(from, b);
    }

    static variable_list backward(AutogradContext* ctx, variable_list grads) {
        refuseSecondOrder("tessera::bias_gelu");
        const auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &b = saved[1], xGrad = at::empty(x.sizes(), x.options());
        return {xGrad, slopes(x, b, grads[0].contiguous(), xGrad, Tensor())};
    }
};

void checkGelu(const char* op, const Tensor& x, const Optional<Tensor>& bias) {
    expectValues(op, "x", x);
    TORCH_CHECK(x.dim() > 0, op, " expects x with a last dimension");
    expectVector(op, "bias", orUndefined(bias), x.size(-1));
}

Tensor biasGelu(const Tensor& x, const Optional<Tensor>& bias) {
    checkGelu("tessera::bias_gelu", x, bias);
    return BiasGeluFunction::apply(x, bias);
}

// ---- with the linear layer after it --------------------------------------------------------------------------------------

struct GeluLinearFunction : torch::autograd::Function<GeluLinearFunction> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Optional<Tensor>& bias, const Tensor& weight, const Optional<Tensor>& outBias) {
        const Tensor from = x.contiguous(), b = contiguous(orUndefined(bias)), ob = orUndefined(outBias);
        const Tensor w = typeOf(from) == kernels::kHalf ? halfOf(weight) : weight;
        ctx->save_for_backward({from, b, w});
        ctx->saved_data["biased"] = ob.defined();
        return at::linear(activated(from, b), w, ob.defined() ? Optional<Tensor>(ob.to(w.scalar_type())) : Optional<Tensor>());
    }

    static variable_list backward(AutogradContext* ctx, variable_list grads) {
        refuseSecondOrder("tessera::gelu_linear");
        const auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &b = saved[1], &w = saved[2];
        const int64_t in = w.size(1), out = w.size(0);
        const Tensor outGrad = grads[0].contiguous().view({-1, out}), rows = x.view({-1, in}), again = at::empty_like(rows);
        const Tensor rowGrad = outGrad.mm(w);  // of what came out of GELU, then of what came in
        const Tensor biasGrad = slopes(rows, b, rowGrad, rowGrad, again);
        const bool outBiased = ctx->saved_data["biased"].toBool();
        if (typeOf(x) == kernels::kHalf) {
            const auto [weightGrad, outBiasGrad] = linearGradients(outGrad, again, outBiased);
            return {rowGrad.view(x.sizes()), biasGrad, weightGrad, outBiasGrad};
        }
        return {rowGrad.view(x.sizes()), biasGrad, outGrad.t().mm(again), outBiased ? outGrad.sum(0) : Tensor()};
    }
};

Tensor geluLinear(const Tensor& x, const Optional<Tensor>& bias, const Tensor& weight, const Optional<Tensor>& outBias) {
    const char* op = "tessera::gelu_linear";
    checkGelu(op, x, bias);
    TORCH_CHECK(x.size(-1) > 0 && (typeOf(x) == kernels::kFloat || hasHalfLinear()), op,
                " expects rows of some numbers, in bfloat16 only on a CPU for which there is a micro-kernel, got ", x.sizes(), " of ", x.scalar_type());
    expectWeight(op, weight, x.size(-1));
    expectVector(op, "outBias", orUndefined(outBias), weight.size(0));
    return GeluLinearFunction::apply(x, bias, weight, outBias);
}

}  // namespace

void registerGelu() {
    registerOperator("bias_gelu", "bias_gelu(Tensor x, Tensor? bias) -> Tensor", biasGelu);
    registerOperator("gelu_linear", "gelu_linear(Tensor x, Tensor? bias, Tensor weight, Tensor? outBias) -> Tensor", geluLinear);
}

}  // namespace tessera
