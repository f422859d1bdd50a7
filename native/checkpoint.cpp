// Gradient checkpointing: a node of the autograd graph whose backward calls JavaScript, which computes a piece of the forward pass again and
// differentiates that. src/torch/checkpoint.ts says what is computed.
#include "bridge.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

namespace tessera {

namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// References whose nodes ended on a thread that may not call Node-API: the next checkpoint deletes them.
struct Orphans {
    std::mutex mutex;
    std::vector<std::pair<napi_env, napi_ref>> references;
};

Orphans& orphans() {
    static auto* instance = new Orphans;  // never destroyed, as the state
    return *instance;
}

// Deletes a reference where its environment is still there: other threads' went with them.
void deleteReference(napi_env env, napi_ref reference) {
    if (state().env == env) napi_delete_reference(env, reference);
}

struct HandleScope {
    napi_env env;
    napi_handle_scope scope = nullptr;
    explicit HandleScope(napi_env env) : env(env) { check(napi_open_handle_scope(env, &scope)); }
    ~HandleScope() { napi_close_handle_scope(env, scope); }
    HandleScope(const HandleScope&) = delete;
    HandleScope& operator=(const HandleScope&) = delete;
};

napi_value arrayOf(napi_env env, const variable_list& tensors) {
    napi_value out;
    check(napi_create_array_with_length(env, tensors.size(), &out));
    for (size_t i = 0; i < tensors.size(); ++i) check(napi_set_element(env, out, static_cast<uint32_t>(i), wrapTensor(env, tensors[i])));
    return out;
}

struct CheckpointNode : Node {
    napi_env env = nullptr;
    napi_ref recompute = nullptr;
    std::thread::id thread = std::this_thread::get_id();
    std::vector<SavedVariable> inputs;

    ~CheckpointNode() override { forget(); }

    std::string name() const override { return "CheckpointBackward"; }

    variable_list apply(variable_list&& gradients) override {
        // On the CPU libtorch runs backward on the thread that asks for it; kernels of other devices have threads of their own.
        if (std::this_thread::get_id() != thread)
            fail(ErrorKind::Operator, "gradient checkpointing works on the CPU only, and not nested more than 60 deep: this backward runs on a thread "
                                      "that has no JavaScript");
        if (!recompute)
            fail(ErrorKind::Operator, "trying to backward through a checkpoint a second time, after what it needs has been freed: give the first "
                                      "backward retainGraph");
        if (c10::GradMode::is_enabled())
            fail(ErrorKind::Operator, "a checkpoint has no second derivatives: leave out createGraph, or checkpointing");
        if (!torch::autograd::Engine::get_default_engine().is_checkpoint_valid())
            fail(ErrorKind::Operator, "a checkpoint accumulates the gradients of all that it used: grad(), and backward() with inputs, cannot go "
                                      "through it; use backward() alone");
        HandleScope handles(env);
        Scope scope;
        variable_list saved;
        saved.reserve(inputs.size());
        for (const SavedVariable& each : inputs) saved.push_back(each.unpack());
        napi_value callback, global, result;
        check(napi_get_reference_value(env, recompute, &callback));
        check(napi_get_global(env, &global));
        napi_value args[] = {arrayOf(env, saved), arrayOf(env, gradients)};
        check(napi_call_function(env, global, callback, 2, args, &result));
        return tensorList(env, result, "gradients", true);
    }

    void release_variables() override {
        for (SavedVariable& each : inputs) each.reset_data();
        forget();
    }

    // The callback's reference goes, also when a finalizer in garbage collection ends the graph: deleting one is allowed there.
    void forget() {
        napi_ref reference = std::exchange(recompute, nullptr);
        if (!reference) return;
        if (std::this_thread::get_id() == thread) return deleteReference(env, reference);
        std::lock_guard<std::mutex> lock(orphans().mutex);
        orphans().references.emplace_back(env, reference);
    }
};

// Nodes are shared_ptrs in older versions, intrusive ones in newer.
template <class T>
auto makeNode() {
    using Pointer = std::decay_t<decltype(std::declval<at::Tensor>().grad_fn())>;
    if constexpr (std::is_same_v<Pointer, std::shared_ptr<Node>>)
        return std::shared_ptr<T>(new T, [](T* node) { deleteNode(node); });
    else
        return c10::make_intrusive<T>();
}

// checkpoint(inputs, outputs, recompute): the outputs with a new history, which is a node with the inputs before it. Its backward gives
// recompute(inputs, gradients of the outputs) and takes a gradient, or null, for each input.
napi_value checkpoint(napi_env env, size_t, napi_value* argv) {
    variable_list inputs = tensorList(env, argv[0], "inputs", false), outputs = tensorList(env, argv[1], "outputs", false);
    napi_valuetype type;
    check(napi_typeof(env, argv[2], &type));
    if (type != napi_function) badArgument("recompute must be a function, got " + kindOf(env, argv[2]));
    for (const at::Tensor& each : outputs)
        if (!at::isFloatingType(each.scalar_type()) && !at::isComplexType(each.scalar_type()))
            badArgument(std::string("only floating-point tensors have a history, an output is ") + dtypeName(each.scalar_type()));
    {
        std::lock_guard<std::mutex> lock(orphans().mutex);
        for (const auto& [owner, reference] : orphans().references) deleteReference(owner, reference);
        orphans().references.clear();
    }
    auto node = makeNode<CheckpointNode>();
    node->env = env;
    node->set_next_edges(torch::autograd::collect_next_edges(inputs));
    for (const at::Tensor& each : inputs) node->inputs.emplace_back(each, false);
    check(napi_create_reference(env, argv[2], 1, &node->recompute));
    for (at::Tensor& each : outputs) {
        each = each.detach();
        torch::autograd::set_history(each, node);
    }
    return arrayOf(env, outputs);
}

}  // namespace

void exportCheckpoint(napi_env env, napi_value exports) { addFunction(env, exports, "checkpoint", guarded<checkpoint>); }

}  // namespace tessera
