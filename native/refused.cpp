// Which operators cannot be called from JavaScript, although libtorch has them. No input may end the process, and libtorch's own doors in
// Python and C++ guard some kernels that the dispatcher leaves open: internal operators take for granted what their only caller has
// checked, and read or write out of bounds (or divide by zero, or abort) where it is not so. Whole classes are refused first; single
// operators only where random calls (scripts/fuzz-bridge.mjs) ended the process. Operators of libraries the program loads itself
// (torchvision's, say) are its own business.
#include "bridge.h"

#include <algorithm>
#include <cstring>

namespace tessera {

namespace {

// libtorch's own namespaces beside aten: quantised and vendor kernels, tests, compiler internals, collectives.
constexpr const char* kNamespaces[] = {
    "quantized", "_quantized", "quantization", "sparse", "static_runtime", "_test", "prim", "prims", "prepacked", "xnnpack", "mkl", "mkldnn",
    "mkldnn_prepacked", "onednn", "inductor", "inductor_prims", "profiler", "c10d", "_c10d_functional", "_c10d_functional_autograd", "symm_mem",
    "_dtensor", "rngprims", "debugprims", "streams", "higher_order",
};

// An operator whose name begins with one underscore is internal, except these.
constexpr const char* kPublicUnderscored[] = {"__", "_foreach_", "_upsample_"};
constexpr const char* kPublicUnderscoredNames[] = {"_fused_adamw_", "_scaled_dot_product_attention"};

// Operators whose out= variant can be called: elementwise arithmetic into a buffer of one's own.
constexpr const char* kWithOut[] = {"add", "sub", "mul", "div", "addcmul", "copy"};

constexpr const char* kInternalPrefixes[] = {
    "mkldnn_", "cudnn_", "miopen_", "mps_", "xpu_", "fbgemm_", "quantize", "quantized_", "fake_quantize", "fused_moving_avg", "choose_qparams",
    "q_", "qscheme", "int_repr", "dequantize", "sparse_", "to_sparse", "to_mkldnn", "to_padded", "nested_", "sym_",
};

// Kernels behind a public operator, which checks what they do not.
constexpr const char* kKernelPrefixes[] = {"slow_conv", "thnn_conv", "conv_depthwise", "native_channel_shuffle", "batch_norm_", "native_batch_norm"};

// Single operators, each with what ended the process.
struct Named {
    const char* name;  // with its overload; without one for all
    const char* reason;
};
constexpr Named kNamed[] = {
    {"align_tensors", "named dimensions are not offered"},
    {"align_to", "named dimensions are not offered"},
    {"align_as", "named dimensions are not offered"},
    {"range", "its number of steps can overflow; it is deprecated: use arange"},
    {"from_file", "it creates and maps files by name: read the file and use fromTypedArray"},
    {"rrelu_with_noise", "it writes the noise without a look at its size: use rrelu"},
    {"rrelu_with_noise_", "it writes the noise without a look at its size: use rrelu_"},
    {"rrelu_with_noise_functional", "it writes the noise without a look at its size: use rrelu"},
    {"histogramdd", "a list of bins of the wrong length ends the process in libtorch 1.13: use histogram"},
    {"set", "it puts a tensor on any part of another's memory: use view or as_strided"},
    {"set_", "it puts a tensor on any part of another's memory: use view or as_strided"},
    {"embedding_bag", "its indices and offsets are not checked: use embedding and a sum"},
    {"_foreach_copy", "lists of different lengths end the process in libtorch: use _foreach_copy_"},
    {"lu_unpack", "its pivots are not checked: use linalg_lu"},
    {"lu_solve", "its pivots are not checked: use linalg_solve"},
    {"linalg_lu_solve", "its pivots are not checked: use linalg_solve"},
    {"linalg_ldl_solve", "its pivots are not checked: use linalg_solve"},
    {"lstm.data", "its packed batches are not checked: use lstm.input"},
    {"gru.data", "its packed batches are not checked: use gru.input"},
    {"rnn_tanh.data", "its packed batches are not checked: use rnn_tanh.input"},
    {"rnn_relu.data", "its packed batches are not checked: use rnn_relu.input"},
};

bool startsWith(const std::string& name, const char* prefix) { return name.rfind(prefix, 0) == 0; }

template <size_t N>
bool startsWithAny(const std::string& name, const char* const (&prefixes)[N]) {
    return std::any_of(prefixes, prefixes + N, [&](const char* prefix) { return startsWith(name, prefix); });
}

template <size_t N>
bool isOneOf(const std::string& name, const char* const (&names)[N]) {
    return std::any_of(names, names + N, [&](const char* each) { return name == each; });
}

bool endsWithBackward(const std::string& name) { return name.find("_backward") != std::string::npos; }

// An argument that the caller must bring and the operator overwrites: x.add(y, out=z).
bool hasOutArgument(const c10::FunctionSchema& schema) {
    return std::any_of(schema.arguments().begin(), schema.arguments().end(), [](const c10::Argument& argument) {
        return argument.kwarg_only() && argument.alias_info() && argument.alias_info()->isWrite();
    });
}

}  // namespace

const char* refusalOf(const c10::FunctionSchema& schema) {
    const std::string& full = schema.name();
    const auto colon = full.find("::");
    const std::string space = full.substr(0, colon), name = full.substr(colon + 2);
    if (isOneOf(space, kNamespaces)) return "its namespace is internal to libtorch";
    if (space != "aten") return nullptr;
    if (hasOutArgument(schema) && !isOneOf(name, kWithOut))
        return "variants that write into an out= argument are not offered: use the operator that returns its result";
    if (endsWithBackward(name)) return "only autograd calls it, and it takes for granted what autograd has checked: use backward() or grad()";
    if (name[0] == '_' && !startsWithAny(name, kPublicUnderscored) && !isOneOf(name, kPublicUnderscoredNames))
        return "it is internal to libtorch: use the public operator that calls it";
    if (startsWithAny(name, kInternalPrefixes)) return "quantised, sparse, nested and vendor tensors are not offered";
    if (startsWithAny(name, kKernelPrefixes)) return "it is the kernel of a public operator: call that one";
    if (name.find("_polynomial_") != std::string::npos) return "its degree has no bound, so that one call can run for ever";
    const std::string& overload = schema.overload_name();
    if (name == "_fused_adamw_" && !overload.empty()) return "it is internal to libtorch: use the overload without a name";
    const std::string overloaded = overload.empty() ? name : name + "." + overload;
    for (const Named& each : kNamed)
        if (name == each.name || overloaded == each.name) return each.reason;
    return nullptr;
}

}  // namespace tessera
