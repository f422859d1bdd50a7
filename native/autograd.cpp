// What is not an operator: backward and grad, grad mode, autocast, and the generators' state.
#include "bridge.h"

#include <ATen/autocast_mode.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <mutex>

namespace tessera {

namespace {

napi_valuetype kind(napi_env env, napi_value value) {
    napi_valuetype type;
    check(napi_typeof(env, value, &type));
    return type;
}

bool given(napi_env env, napi_value value) {
    napi_valuetype type = kind(env, value);
    return type != napi_undefined && type != napi_null;
}

template <class F>
auto timed(F run) {
    State& s = state();
    auto start = std::chrono::steady_clock::now();
    struct Stop {
        State& s;
        decltype(start) begin;
        ~Stop() {
            if (!s.timing) return;
            s.nanoseconds += static_cast<uint64_t>(
                std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begin).count());
            s.calls++;
        }
    } stop{s, start};
    return run();
}

template <class F>
auto named(napi_env env, const char* where, F run) {
    try {
        return timed(run);
    } catch (const Pending&) {
        throw;
    } catch (...) {
        throwCurrent(env, where);
        throw Pending{};
    }
}

// backward(outputs, gradients | null, retainGraph, createGraph, inputs | null)
napi_value backward(napi_env env, size_t, napi_value* argv) {
    auto outputs = tensorList(env, argv[0], "outputs", false);
    std::vector<at::Tensor> gradients, inputs;
    if (given(env, argv[1])) gradients = tensorList(env, argv[1], "gradients", true);
    bool retain = boolean(env, argv[2], "retainGraph"), create = boolean(env, argv[3], "createGraph");
    if (given(env, argv[4])) inputs = tensorList(env, argv[4], "inputs", false);
    named(env, "backward", [&] {
        torch::autograd::backward(outputs, gradients, retain, create, inputs);
        return 0;
    });
    return nullptr;
}

// grad(outputs, inputs, gradients | null, retainGraph, createGraph, allowUnused): one gradient an input, null where unused.
napi_value grad(napi_env env, size_t, napi_value* argv) {
    auto outputs = tensorList(env, argv[0], "outputs", false);
    auto inputs = tensorList(env, argv[1], "inputs", false);
    std::vector<at::Tensor> gradients;
    if (given(env, argv[2])) gradients = tensorList(env, argv[2], "gradients", true);
    bool retain = boolean(env, argv[3], "retainGraph"), create = boolean(env, argv[4], "createGraph");
    bool allowUnused = boolean(env, argv[5], "allowUnused");
    auto result = named(env, "grad", [&] { return torch::autograd::grad(outputs, inputs, gradients, retain, create, allowUnused); });
    napi_value out;
    check(napi_create_array_with_length(env, result.size(), &out));
    for (size_t i = 0; i < result.size(); ++i) check(napi_set_element(env, out, static_cast<uint32_t>(i), wrapTensor(env, result[i])));
    return out;
}

napi_value gradOf(napi_env env, size_t, napi_value* argv) { return wrapTensor(env, tensorOf(env, argv[0], "grad").grad()); }

napi_value setGrad(napi_env env, size_t, napi_value* argv) {
    at::Tensor& tensor = tensorOf(env, argv[0], "grad");
    at::Tensor value = given(env, argv[1]) ? tensorOf(env, argv[1], "grad") : at::Tensor();
    if (value.defined() && value.is_same(tensor)) badArgument("a tensor cannot be its own grad");
    if (value.defined() && (value.sizes() != tensor.sizes() || value.device() != tensor.device() || value.scalar_type() != tensor.scalar_type()))
        badArgument("grad must have the shape, the dtype and the device of its tensor: the tensor is " + describe(env, argv[0]) +
                    ", the gradient " + describe(env, argv[1]));
    tensor.mutable_grad() = value;
    return nullptr;
}

napi_value requiresGrad(napi_env env, size_t, napi_value* argv) {
    return makeBool(env, tensorOf(env, argv[0], "requiresGrad").requires_grad());
}

napi_value setRequiresGrad(napi_env env, size_t, napi_value* argv) {
    at::Tensor& tensor = tensorOf(env, argv[0], "requiresGrad");
    bool on = boolean(env, argv[1], "requiresGrad");
    if (!tensor.is_leaf()) badArgument("requiresGrad can be set on leaves only; detach() the tensor first");
    if (on && !at::isFloatingType(tensor.scalar_type()) && !at::isComplexType(tensor.scalar_type()))
        badArgument(std::string("only floating-point tensors can require gradients, this one is ") + dtypeName(tensor.scalar_type()));
    tensor.set_requires_grad(on);
    return nullptr;
}

napi_value isLeaf(napi_env env, size_t, napi_value* argv) { return makeBool(env, tensorOf(env, argv[0], "isLeaf").is_leaf()); }

napi_value isGradEnabled(napi_env env, size_t, napi_value*) { return makeBool(env, c10::GradMode::is_enabled()); }

napi_value setGradEnabled(napi_env env, size_t, napi_value* argv) {
    bool before = c10::GradMode::is_enabled();
    c10::GradMode::set_enabled(boolean(env, argv[0], "setGradEnabled"));
    return makeBool(env, before);
}

// The casts of weights are kept while autocast is on and dropped when the outermost region ends.
napi_value autocastEnter(napi_env env, size_t, napi_value* argv) {
    c10::Device device = deviceFromName(utf8(env, argv[0]));
    bool enabled = boolean(env, argv[1], "enabled");
    at::ScalarType type;
    std::string name = utf8(env, argv[2]);
    if (!dtypeFromName(name, type)) badArgument("unknown dtype \"" + name + "\"");
    if (device.is_cpu() && enabled && type != at::kBFloat16 && type != at::kHalf)
        badArgument("autocast on the CPU computes in bfloat16 or float16, got " + name);
    napi_value before;
    check(napi_create_array_with_length(env, 2, &before));
#if TESSERA_TORCH_AT_LEAST(2, 4)
    const auto kind = device.type();
    check(napi_set_element(env, before, 0, makeBool(env, at::autocast::is_autocast_enabled(kind))));
    check(napi_set_element(env, before, 1, makeString(env, dtypeName(at::autocast::get_autocast_dtype(kind)))));
    at::autocast::set_autocast_enabled(kind, enabled);
    at::autocast::set_autocast_dtype(kind, type);
#else
    if (device.is_cpu()) {
        check(napi_set_element(env, before, 0, makeBool(env, at::autocast::is_cpu_enabled())));
        check(napi_set_element(env, before, 1, makeString(env, dtypeName(at::autocast::get_autocast_cpu_dtype()))));
        at::autocast::set_cpu_enabled(enabled);
        at::autocast::set_autocast_cpu_dtype(type);
    } else {
        check(napi_set_element(env, before, 0, makeBool(env, at::autocast::is_enabled())));
        check(napi_set_element(env, before, 1, makeString(env, dtypeName(at::autocast::get_autocast_gpu_dtype()))));
        at::autocast::set_enabled(enabled);
        at::autocast::set_autocast_gpu_dtype(type);
    }
#endif
    at::autocast::increment_nesting();
    return before;
}

// autocastExit(device, enabledBefore, dtypeBefore)
napi_value autocastExit(napi_env env, size_t, napi_value* argv) {
    c10::Device device = deviceFromName(utf8(env, argv[0]));
    bool enabled = boolean(env, argv[1], "enabled");
    at::ScalarType type;
    if (!dtypeFromName(utf8(env, argv[2]), type)) badArgument("unknown dtype");
#if TESSERA_TORCH_AT_LEAST(2, 4)
    at::autocast::set_autocast_enabled(device.type(), enabled);
    at::autocast::set_autocast_dtype(device.type(), type);
#else
    if (device.is_cpu()) {
        at::autocast::set_cpu_enabled(enabled);
        at::autocast::set_autocast_cpu_dtype(type);
    } else {
        at::autocast::set_enabled(enabled);
        at::autocast::set_autocast_gpu_dtype(type);
    }
#endif
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    return nullptr;
}

napi_value autocastEnabled(napi_env env, size_t, napi_value* argv) {
    c10::Device device = deviceFromName(utf8(env, argv[0]));
#if TESSERA_TORCH_AT_LEAST(2, 4)
    return makeBool(env, at::autocast::is_autocast_enabled(device.type()));
#else
    return makeBool(env, device.is_cpu() ? at::autocast::is_cpu_enabled() : at::autocast::is_enabled());
#endif
}

// The generator behind a JavaScript Generator, or the device's default one when null is given.
at::Generator generatorFor(napi_env env, napi_value value) {
    if (!given(env, value)) return at::detail::getDefaultCPUGenerator();
    GeneratorBox* box = generatorOf(env, value);
    if (!box) badArgument("expected a Generator, got " + kindOf(env, value));
    return box->generator;
}

napi_value generatorSeed(napi_env env, size_t, napi_value* argv) {
    int64_t seed = integer(env, argv[1], "seed");
    if (!given(env, argv[0])) {
        at::manual_seed(static_cast<uint64_t>(seed));
        return nullptr;
    }
    at::Generator generator = generatorFor(env, argv[0]);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(static_cast<uint64_t>(seed));
    return nullptr;
}

napi_value generatorGetState(napi_env env, size_t, napi_value* argv) {
    at::Generator generator = generatorFor(env, argv[0]);
    std::lock_guard<std::mutex> lock(generator.mutex());
    return wrapTensor(env, generator.get_state());
}

napi_value generatorSetState(napi_env env, size_t, napi_value* argv) {
    at::Generator generator = generatorFor(env, argv[0]);
    at::Tensor bytes = tensorOf(env, argv[1], "state");
    // libtorch asserts on these by aborting checks deep inside; say it plainly here.
    if (bytes.scalar_type() != at::kByte || !bytes.device().is_cpu() || !bytes.is_contiguous() || bytes.dim() != 1)
        badArgument("a generator's state is a contiguous uint8 vector, got " + describe(env, argv[1]));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(bytes);
    return nullptr;
}

}  // namespace

void exportAutograd(napi_env env, napi_value exports) {
    addFunction(env, exports, "backward", guarded<backward>);
    addFunction(env, exports, "grad", guarded<grad>);
    addFunction(env, exports, "gradOf", guarded<gradOf>);
    addFunction(env, exports, "setGrad", guarded<setGrad>);
    addFunction(env, exports, "requiresGrad", guarded<requiresGrad>);
    addFunction(env, exports, "setRequiresGrad", guarded<setRequiresGrad>);
    addFunction(env, exports, "isLeaf", guarded<isLeaf>);
    addFunction(env, exports, "isGradEnabled", guarded<isGradEnabled>);
    addFunction(env, exports, "setGradEnabled", guarded<setGradEnabled>);
    addFunction(env, exports, "autocastEnter", guarded<autocastEnter>);
    addFunction(env, exports, "autocastExit", guarded<autocastExit>);
    addFunction(env, exports, "autocastEnabled", guarded<autocastEnabled>);
    addFunction(env, exports, "generatorSeed", guarded<generatorSeed>);
    addFunction(env, exports, "generatorGetState", guarded<generatorGetState>);
    addFunction(env, exports, "generatorSetState", guarded<generatorSetState>);
}

}  // namespace tessera
