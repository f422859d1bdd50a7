// Checks before single operators whose kernels take their arguments for granted: Python's own callers look first, the dispatcher does not.
// What is here is used too much to be refused (see refused.cpp); scripts/fuzz-bridge.mjs found what has to be.
#include "bridge.h"

#include <algorithm>
#include <cmath>

namespace tessera {

namespace {

[[noreturn]] void wrong(const ArgumentSpec& spec, const std::string& what) { badArgument("argument '" + spec.name + "' " + what); }

// _foreach_*: kernels walk all lists by the length of the first.
void sameLengths(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    for (size_t i = 1; i < stack.size(); ++i) {
        if (!stack[i].isList() || !stack[0].isList()) continue;
        const size_t length = stack[i].toListRef().size(), expected = stack[0].toListRef().size();
        if (length != expected)
            wrong(specs[i], "has " + std::to_string(length) + " elements, '" + specs[0].name + "' has " + std::to_string(expected));
    }
}

// _fused_adamw_(self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr, ..., grad_scale, found_inf): pointers are walked over
// the elements of `self`, so all must lie in memory as it does.
void fusedAdamW(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    constexpr size_t kGradients = 1, kMaxima = 4, kSteps = 5;
    const auto parameters = stack[0].toTensorVector();
    bool amsgrad = false;
    for (size_t i = 0; i < specs.size(); ++i)
        if (specs[i].name == "amsgrad") amsgrad = stack[i].toBool();
    for (size_t i = kGradients; i <= kSteps; ++i) {
        const auto list = stack[i].toTensorVector();
        if (i == kMaxima && !amsgrad && list.empty()) continue;
        if (list.size() != parameters.size())
            wrong(specs[i], "has " + std::to_string(list.size()) + " tensors, '" + specs[0].name + "' has " + std::to_string(parameters.size()));
        for (size_t k = 0; k < list.size(); ++k) {
            if (i == kSteps) {
                if (list[k].numel() != 1 || list[k].scalar_type() != at::kFloat) wrong(specs[i], "expects float32 tensors of one element");
                continue;
            }
            const at::Tensor& like = parameters[k];
            if (list[k].scalar_type() != like.scalar_type() || list[k].device() != like.device() || list[k].sizes() != like.sizes() ||
                (list[k].strides() != like.strides() && !(list[k].is_contiguous() && like.is_contiguous())) || !like.is_non_overlapping_and_dense() || !at::isFloatingType(like.scalar_type()))
                wrong(specs[i], "expects floating-point tensors of the dtype, shape and strides of '" + specs[0].name + "', which differ at " +
                                    std::to_string(k));
        }
    }
    for (size_t i = kSteps + 1; i < stack.size(); ++i)
        if (stack[i].isTensor() && (stack[i].toTensor().numel() != 1 || stack[i].toTensor().scalar_type() != at::kFloat))
            wrong(specs[i], "expects a float32 tensor of one element");
}

// The processor's integer division traps on the smallest integer divided by -1, which ends the process. (By zero, libtorch looks itself.)
void integerDivision(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    const auto isFloating = [](const c10::IValue& value) {
        return value.isTensor() ? !at::isIntegralType(value.toTensor().scalar_type(), true) : !value.isInt() && !value.isBool();
    };
    if (isFloating(stack[0]) || isFloating(stack[1])) return;
    const auto has = [](const c10::IValue& value, int64_t number) {
        if (!value.isTensor()) return value.toScalar().toLong() == number;
        const at::Tensor& tensor = value.toTensor();
        if (at::elementSize(tensor.scalar_type()) < 4) return number == -1;  // promoted, as far as that can be
        return at::eq(tensor, number).any().item<bool>();
    };
    if (!has(stack[1], -1)) return;
    if (has(stack[0], INT64_MIN) || has(stack[0], INT32_MIN)) wrong(specs[0], "holds the smallest integer, whose quotient by -1 does not fit");
}

// pixel_shuffle and pixel_unshuffle divide by the square of the factor, which must not overflow to 0.
void smallFactor(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    const int64_t factor = stack[1].toInt();
    if (factor < 1 || factor > 32767) wrong(specs[1], "must be between 1 and 32767, got " + std::to_string(factor));
}

// split, chunk, unbind and their like: a million handles are more than anybody wants, and 2^40 are more than any memory holds.
void fewResults(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    constexpr int64_t most = 1 << 20;
    const at::Tensor& self = stack[0].toTensor();
    int64_t each = 1, longest = 1;
    for (int64_t size : self.sizes()) longest = std::max(longest, size);
    for (size_t i = 1; i < specs.size(); ++i) {
        const std::string& name = specs[i].name;
        if (name == "tensor_indices_or_sections" && stack[i].isTensor() && stack[i].toTensor().dim() == 0 && stack[i].toTensor().is_cpu() &&
            stack[i].toTensor().scalar_type() == at::kLong && stack[i].toTensor().item<int64_t>() > most)
            wrong(specs[i], "asks for more than a million tensors");
        if (!stack[i].isInt()) continue;
        if ((name == "sections" || name == "chunks") && stack[i].toInt() > most) wrong(specs[i], "asks for more than a million tensors");
        if (name == "sections" || name == "chunks") return;
        if (name == "split_size") each = std::max<int64_t>(stack[i].toInt(), 1);
    }
    for (const auto& argument : specs)
        if (argument.kind == Kind::IntList) return;  // as many as are listed
    if (longest / each > most) wrong(specs[0], "would be cut into more than a million tensors");
}

// upsample_*(self, output_size, ..., scales): positions are computed by the scales and read without a look at the input's end.
void scalesThatFit(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    if (specs.size() < 2 || specs[1].name != "output_size" || !stack[1].isIntList()) return;
    const auto output = stack[1].toIntVector();
    const at::Tensor& input = stack[0].toTensor();
    const auto spatial = static_cast<int64_t>(output.size());
    if (input.dim() < spatial) wrong(specs[0], "has too few dimensions");
    size_t axis = 0;
    for (size_t i = 2; i < specs.size(); ++i) {
        if (specs[i].name.rfind("scales", 0) != 0) continue;
        if (axis < output.size() && stack[i].isDouble()) {
            const auto size = input.size(input.dim() - spatial + static_cast<int64_t>(axis));
            if (std::floor(static_cast<double>(size) * stack[i].toDouble()) != static_cast<double>(output[axis]))
                wrong(specs[i], "does not lead from " + std::to_string(size) + " to " + std::to_string(output[axis]));
        }
        ++axis;
    }
}

// resize: a size of 0 among the others keeps 1.13 from looking at them.
void soundSizes(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    if (!stack[1].isIntList()) return;
    double elements = 1;
    for (int64_t size : stack[1].toIntVector()) {
        if (size < 0) wrong(specs[1], "must not be negative");
        elements *= static_cast<double>(std::max<int64_t>(size, 1));
    }
    if (elements > 4e18) wrong(specs[1], "asks for more elements than can be counted");
}

// repeat_interleave adds up how often each element is wanted: the sum must not overflow, and a negative number would make the result
// shorter than what is written into it.
void fewRepeats(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    constexpr int64_t most = INT32_MAX;
    for (size_t i = 0; i < specs.size(); ++i) {
        if (specs[i].name != "repeats") continue;
        if (stack[i].isInt() && stack[i].toInt() > most) wrong(specs[i], "asks for more than 2^31 of each element");
        if (!stack[i].isTensor() || stack[i].toTensor().numel() == 0 || !at::isIntegralType(stack[i].toTensor().scalar_type(), false)) continue;
        if (at::lt(stack[i].toTensor(), 0).any().item<bool>()) wrong(specs[i], "must not be negative");
        if (at::gt(stack[i].toTensor(), most).any().item<bool>()) wrong(specs[i], "asks for more than 2^31 of an element");
    }
}

// lstm, gru, rnn_*: the list of weights is read by position, as many as the layers say.
void recurrent(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    const auto at = [&](const char* name) {
        size_t i = 0;
        while (i < specs.size() && specs[i].name != name) ++i;
        if (i == specs.size()) badArgument(std::string("internal: no argument '") + name + "'");
        return i;
    };
    const auto parameters = stack[at("params")].toTensorVector();
    const int64_t layers = stack[at("num_layers")].toInt() * (stack[at("bidirectional")].toBool() ? 2 : 1);
    const size_t biases = stack[at("has_biases")].toBool() ? 2 : 0, without = 2 + biases;
    const auto& hidden = stack[at("hx")];
    if (stack[0].toTensor().dim() != 3) wrong(specs[0], "must have 3 dimensions");
    const auto states = hidden.isTensor() ? std::vector<at::Tensor>{hidden.toTensor()} : hidden.toTensorVector();
    if (!hidden.isTensor() && states.size() != 2) wrong(specs[at("hx")], "must be two tensors");
    for (const auto& each : states)
        if (each.dim() != 3) wrong(specs[at("hx")], "must have 3 dimensions");
    const size_t projected = hidden.isTensor() ? without : without + 1;
    const auto count = static_cast<int64_t>(parameters.size());
    if (layers < 1 || layers > 4096 || (count != layers * static_cast<int64_t>(without) && count != layers * static_cast<int64_t>(projected)))
        wrong(specs[at("params")], "has " + std::to_string(count) + " tensors, which does not fit the layers");
    const size_t group = static_cast<size_t>(count / layers);
    for (size_t i = 0; i < parameters.size(); ++i) {
        const size_t k = i % group;
        if (parameters[i].dim() != (k >= 2 && k < without ? 1 : 2)) wrong(specs[at("params")], "has a weight that is no matrix or a bias that is no vector");
    }
}

// searchsorted(sorted_sequence, self, ..., sorter) reads where the sorter says; 1.13 does not look whether that is inside.
void sorterInside(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack) {
    const at::Tensor& sequence = stack[0].toTensor();
    for (size_t i = 0; i < specs.size(); ++i) {
        if (specs[i].name != "sorter" || !stack[i].isTensor() || !stack[i].toTensor().defined()) continue;
        const at::Tensor& sorter = stack[i].toTensor();
        if (sorter.scalar_type() != at::kLong) wrong(specs[i], "must be an int64 tensor");
        if (sorter.numel() == 0 || sequence.dim() == 0) continue;  // nothing to read; libtorch compares the shapes
        const int64_t length = sequence.size(-1);
        if (at::lt(sorter, 0).any().item<bool>() || at::ge(sorter, length).any().item<bool>())
            wrong(specs[i], "must hold indices of 0 to " + std::to_string(length - 1));
    }
}

constexpr const char* kCuts[] = {
    "split", "split_copy", "unsafe_split", "chunk", "unsafe_chunk", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind", "unbind_copy",
};
constexpr const char* kIntegerDivisions[] = {"remainder", "fmod", "floor_divide", "div", "divide"};

}  // namespace

Guard guardOf(const std::string& full) {
    if (full.rfind("aten::", 0) != 0) return nullptr;
    std::string name = full.substr(6);
    if (name == "_fused_adamw_") return fusedAdamW;
    if (name.rfind("_foreach_", 0) == 0) return sameLengths;
    if (name == "pixel_shuffle" || name == "pixel_unshuffle") return smallFactor;
    for (const char* each : kCuts)
        if (name == each) return fewResults;
    if (name.rfind("upsample_", 0) == 0 || name.rfind("_upsample_", 0) == 0) return scalesThatFit;
    if (name == "resize" || name == "resize_") return soundSizes;
    if (name == "repeat_interleave") return fewRepeats;
    if (name == "searchsorted") return sorterInside;
    if (name == "lstm" || name == "gru" || name == "rnn_tanh" || name == "rnn_relu") return recurrent;
    if (name.back() == '_') name.pop_back();
    for (const char* each : kIntegerDivisions)
        if (name == each) return integerDivision;
    return nullptr;
}

}  // namespace tessera
