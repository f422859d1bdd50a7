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
constexpr const char* kPublicUnderscored[] = {
    "__", "_foreach_", "_fused_adam", "_fused_sgd", "_upsample_", "_scaled_dot_product_attention", "_weight_norm", "_amp_",
    "_softmax", "_log_softmax", "_to_copy", "_unsafe_view",
};

// Operators whose out= variant can be called: elementwise arithmetic into a buffer of one's own.
constexpr const char* kWithOut[] = {"add", "sub", "mul", "div", "addcmul", "copy"};

constexpr const char* kInternalPrefixes[] = {
    "mkldnn_", "cudnn_", "miopen_", "mps_", "xpu_", "fbgemm_", "quantize", "quantized_", "fake_quantize", "q_", "qscheme", "int_repr", "dequantize",
    "sparse_", "to_sparse", "to_mkldnn", "to_padded", "nested_", "sym_",
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
    if (name[0] == '_' && !startsWithAny(name, kPublicUnderscored)) return "it is internal to libtorch: use the public operator that calls it";
    if (startsWithAny(name, kInternalPrefixes)) return "quantised, sparse, nested and vendor tensors are not offered";
    return nullptr;
}

}  // namespace tessera
