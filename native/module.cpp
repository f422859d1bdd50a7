// The addon's entry, and what concerns the library as a whole: version, threads, devices, further operator libraries.
#include "bridge.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>

#include <atomic>

namespace tessera {

void exportProfile(napi_env env, napi_value exports);  // profile.cpp, which nothing else needs
void registerNorm();       // norm.cpp
void registerGelu();       // gelu.cpp
void registerPrototypes(); // prototypes.cpp
void registerAttention();  // attention.cpp
void registerLinear();     // linear.cpp
void registerNearest();    // nearest.cpp

namespace {

// The instruction set that libtorch's own kernels use ("AVX2", "AVX512"); its configuration text names it in every version.
std::string cpuCapability() {
    const std::string text = at::show_config(), key = "CPU capability usage: ";
    const auto start = text.find(key);
    return start == std::string::npos ? "unknown" : text.substr(start + key.size(), text.find('\n', start) - start - key.size());
}

napi_value versionInfo(napi_env env, size_t, napi_value*) {
    napi_value out;
    check(napi_create_object(env, &out));
    auto set = [&](const char* name, napi_value value) { check(napi_set_named_property(env, out, name, value)); };
    set("torch", makeString(env, TORCH_VERSION));
    set("cpuCapability", makeString(env, cpuCapability()));
    set("mkldnn", makeBool(env, at::hasMKLDNN()));
    set("mkl", makeBool(env, at::hasMKL()));
    set("cuda", makeBool(env, at::hasCUDA()));
    set("parallel", makeString(env, at::get_parallel_info()));
    set("config", makeString(env, at::show_config()));
    return out;
}

napi_value getThreads(napi_env env, size_t, napi_value*) { return makeNumber(env, at::get_num_threads()); }

napi_value setThreads(napi_env env, size_t, napi_value* argv) {
    int64_t count = integer(env, argv[0], "threads");
    if (count < 1 || count > 1024) badArgument("threads must be between 1 and 1024, got " + std::to_string(count));
    at::set_num_threads(static_cast<int>(count));
    return nullptr;
}

napi_value setDeterministic(napi_env env, size_t, napi_value* argv) {
    at::globalContext().setDeterministicAlgorithms(boolean(env, argv[0], "deterministic"), false);
    return nullptr;
}

// loadLibrary(path): an operator library such as torchvision's registers its operators when it is loaded.
napi_value loadLibrary(napi_env env, size_t, napi_value* argv) {
    std::string path = utf8(env, argv[0]);
    if (!dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
        const char* reason = dlerror();
        badArgument("cannot load " + path + ": " + (reason ? reason : "unknown reason"));
    }
    return nullptr;
}

// Whether a thread has the engine. Its state is for one thread: libtorch parallelises inside operators, not across them.
std::atomic<bool> claimed{false};

void claim(napi_env env) {
    bool expected = false;
    if (!claimed.compare_exchange_strong(expected, true))
        badArgument("the engine runs on one JavaScript thread at a time, and another thread of this process (or another copy of this library) has it");
    State& s = state();
    s.env = env;
    // What the last thread left when it ended: its references died with it, its tensors were freed by their finalizers.
    s.tensorClass = nullptr;
    for (napi_ref& each : s.errorClasses) each = nullptr;
    s.scopes.clear();
    s.timing = false;
}

// Instance data is finalized after all wrapped objects, so no finalizer of this thread runs while the next one has the engine.
void leave(node_api_basic_env, void*, void*) {
    state().env = nullptr;
    claimed = false;
}

}  // namespace

void addFunction(napi_env env, napi_value exports, const char* name, Callback callback) {
    napi_value function;
    check(napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function));
    check(napi_set_named_property(env, exports, name, function));
}

void exportRuntime(napi_env env, napi_value exports) {
    addFunction(env, exports, "versionInfo", guarded<versionInfo>);
    addFunction(env, exports, "getThreads", guarded<getThreads>);
    addFunction(env, exports, "setThreads", guarded<setThreads>);
    addFunction(env, exports, "setDeterministic", guarded<setDeterministic>);
    addFunction(env, exports, "loadLibrary", guarded<loadLibrary>);
}

}  // namespace tessera

NAPI_MODULE_INIT() {
    using namespace tessera;
    try {
        claim(env);
        check(napi_set_instance_data(env, env, leave, nullptr));
#if TESSERA_TORCH_AT_LEAST(2, 4)
        // Where the processor does not suit it, it says so on standard error at the first convolution; where it does, other convolutions are as good.
        at::globalContext().setUserEnabledNNPACK(false);
#endif
        registerNorm();
        registerGelu();
        registerPrototypes();
        registerAttention();
        registerLinear();
        registerNearest();
        exportRuntime(env, exports);
        exportAllocator(env, exports);
        exportMatmul(env, exports);
        exportTensors(env, exports);
        exportOperators(env, exports);
        exportAutograd(env, exports);
        exportCheckpoint(env, exports);
        exportProfile(env, exports);
    } catch (...) {
        throwCurrent(env, "loading the engine");
    }
    return exports;
}
