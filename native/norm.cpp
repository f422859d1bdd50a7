// A layer norm, and a residual sum with the norm after it, in one pass over memory instead of several.
#include "fused.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct AddNormFunction : torch::autograd::Function<AddNormFunction> {
    // Without a branch the sum is x itself, and only the norm comes out.
    static variable_list forward(AutogradContext* ctx, const Tensor& x, const Optional<Tensor>& maybeBranch, const Optional<Tensor>& bias,
                                 const Optional<Tensor>& gamma, const Optional<Tensor>& keep, const Tensor& weight, const Tensor& shift, double eps,
                                 bool half) {
        const Tensor branch = orUndefined(maybeBranch);
        const int64_t width = x.size(-1), rows = rowsOf(x);
        const Tensor from = x.contiguous(), add = contiguous(branch);
        const Tensor sum = branch.defined() ? at::empty(x.sizes(), from.options()) : from;
        const Tensor normed = at::empty(x.sizes(), from.options().dtype(half ? at::kBFloat16 : at::kFloat));
        const Tensor mean = at::empty({rows}, at::kFloat), rstd = at::empty({rows}, at::kFloat);
        const Tensor b = contiguous(orUndefined(bias)), g = contiguous(orUndefined(gamma)), k = contiguous(orUndefined(keep));
        const Tensor w = weight.contiguous(), s = shift.contiguous();
        const kernels::AddNorm args{width, k.defined() ? rows / k.size(0) : 1, static_cast<float>(eps), floats(from), data(add), floats(b), floats(g),
                                    floats(k), floats(w), floats(s), floats(sum), data(normed), floats(mean), floats(rstd)};
        const auto run = kernels::table().addNorm[add.defined() ? typeOf(add) : 0][typeOf(normed)];
        overRows(rows, width, [&](int64_t begin, int64_t end) { run(args, begin, end); });
        ctx->set_materialize_grads(false);
        // The branch is needed for gamma's gradient only.
        ctx->save_for_backward({sum, g.defined() ? add : Tensor(), b, g, k, w, mean, rstd});
        ctx->saved_data["branch"] = static_cast<int64_t>(branch.defined() ? (branch.scalar_type() == at::kBFloat16 ? 2 : 1) : 0);
        return branch.defined() ? variable_list{sum, normed} : variable_list{normed};
    }

    static variable_list backward(AutogradContext* ctx, variable_list grads) {
        refuseSecondOrder("tessera::add_norm");
        const auto saved = ctx->get_saved_variables();
        const Tensor &sum = saved[0], &b = saved[2], &g = saved[3], &k = saved[4], &w = saved[5], &mean = saved[6], &rstd = saved[7];
        const int64_t kind = ctx->saved_data["branch"].toInt();
        const Tensor sumGrad = kind == 0 ? Tensor() : contiguous(grads[0]), normedGrad = contiguous(grads[kind == 0 ? 0 : 1]);
        if (!sumGrad.defined() && !normedGrad.defined()) return variable_list(9);
        RECORD_FUNCTION("tessera::add_norm_backward", std::vector<c10::IValue>{sum});
        const int64_t width = sum.size(-1), rows = rowsOf(sum);
        const Tensor xGrad = at::empty(sum.sizes(), sum.options());
        const Tensor branchGrad = kind == 0 ? Tensor() : at::empty(sum.sizes(), sum.options().dtype(kind == 2 ? at::kBFloat16 : at::kFloat));
        const Columns shared(4, width);
        const auto run = kernels::table().addNormBackward[kind == 2][normedGrad.defined() ? typeOf(normedGrad) : 0];
        overRows(rows, width, [&](int64_t begin, int64_t end) {
            run({width, k.defined() ? rows / k.size(0) : 1, floats(sum), floats(mean), floats(rstd), floats(w), data(saved[1]), floats(b), floats(g), floats(k),
                 floats(sumGrad), data(normedGrad), floats(xGrad), data(branchGrad), shared.of(0), shared.of(1), b.defined() ? shared.of(2) : nullptr,
                 g.defined() ? shared.of(3) : nullptr},
                begin, end);
        });
        const auto each = shared.sum();
        const bool normed = normedGrad.defined();
        return {xGrad, branchGrad, b.defined() ? each[2] : Tensor(), g.defined() ? each[3] : Tensor(), Tensor(), normed ? each[0] : Tensor(),
                normed ? each[1] : Tensor(), Tensor(), Tensor()};
    }
};

void checkNorm(const char* op, const Tensor& x, const Tensor& weight, const Tensor& shift) {
    TORCH_CHECK(isFloat(x) && x.dim() > 0, op,
                " expects x as a float32 tensor on the CPU with a last dimension, got ", x.sizes(), " of ", x.scalar_type(), " on ", x.device());
    expectVector(op, "weight", weight, x.size(-1));
    expectVector(op, "shift", shift, x.size(-1));
}

Tensor norm(const Tensor& x, const Tensor& weight, const Tensor& shift, double eps, bool half) {
    checkNorm("tessera::norm", x, weight, shift);
    const Optional<Tensor> none;
    return AddNormFunction::apply(x, none, none, none, none, weight, shift, eps, half)[0];
}

std::tuple<Tensor, Tensor> addNorm(const Tensor& x, const Tensor& branch, const Optional<Tensor>& bias, const Optional<Tensor>& gamma,
                                   const Optional<Tensor>& keep, const Tensor& weight, const Tensor& shift, double eps, bool half) {
    const char* op = "tessera::add_norm";
    checkNorm(op, x, weight, shift);
    expectValues(op, "branch", branch);
    TORCH_CHECK(branch.sizes() == x.sizes(), op, " expects a branch of x's shape, got ", x.sizes(), " and ", branch.sizes());
    const Tensor k = orUndefined(keep);
    expectVector(op, "bias", orUndefined(bias), x.size(-1));
    expectVector(op, "gamma", orUndefined(gamma), x.size(-1));
    expectVector(op, "keep", k, x.size(0));
    TORCH_CHECK(!k.defined() || !k.requires_grad(), op, " takes keep as it is: it has no gradient");
    auto out = AddNormFunction::apply(x, Optional<Tensor>(branch), bias, gamma, keep, weight, shift, eps, half);
    return {out[0], out[1]};
}

}  // namespace

void registerNorm() {
    registerOperator("norm", "norm(Tensor x, Tensor weight, Tensor shift, float eps, bool half) -> Tensor", norm);
    registerOperator("add_norm",
                     "add_norm(Tensor x, Tensor branch, Tensor? bias, Tensor? gamma, Tensor? keep, Tensor weight, Tensor shift, float eps, bool half) -> "
                     "(Tensor, Tensor)",
                     addNorm);
}

}  // namespace tessera
