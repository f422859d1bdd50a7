// The bridge between JavaScript and libtorch: what its files share. It knows tensors, operators and autograd, and nothing of vision.
#pragma once

// Finalizers that run inside garbage collection, which a synchronous loop needs: an at::Tensor's destructor runs no JavaScript. The
// headers declare them for NAPI_EXPERIMENTAL; Node runs them so for modules of this version (NAPI_VERSION_EXPERIMENTAL) only.
#define NAPI_EXPERIMENTAL
#define NAPI_VERSION 2147483647
#include <node_api.h>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#define TESSERA_TORCH_AT_LEAST(major, minor) \
    (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace tessera {

#if TESSERA_TORCH_AT_LEAST(2, 4)
template <class T>
using Optional = std::optional<T>;
inline constexpr auto kNullopt = std::nullopt;
#else
template <class T>
using Optional = c10::optional<T>;
inline constexpr auto kNullopt = c10::nullopt;
#endif

// ---- errors -------------------------------------------------------------------------------------------------------------

// The error classes that src/torch/errors.ts registers; the bridge throws instances of them.
enum class ErrorKind { Operator, Argument, Disposed, OutOfMemory, Scope, Count };

// It is a std::exception because it may cross libtorch (the allocator throws it), whose threads carry only those home.
struct Failure : std::exception {
    ErrorKind kind;
    std::string message;
    std::string cause;  // torch's full text, empty where there is none

    Failure(ErrorKind kind, std::string message, std::string cause)
        : kind(kind), message(std::move(message)), cause(std::move(cause)) {}
    const char* what() const noexcept override { return message.c_str(); }
};

// A JavaScript exception is already pending (a getter threw, say): unwind and let it through. It may cross libtorch too, when JavaScript that
// a backward pass called has thrown.
struct Pending : std::exception {};

[[noreturn]] void fail(ErrorKind kind, std::string message, std::string cause = {});
[[noreturn]] inline void badArgument(std::string message) { fail(ErrorKind::Argument, std::move(message)); }

// Translates whatever is in flight into a pending JavaScript exception; `where` names the operator or the function.
void throwCurrent(napi_env env, const std::string& where) noexcept;

inline void check(napi_status status) {
    if (status == napi_ok) return;
    if (status == napi_pending_exception) throw Pending{};
    fail(ErrorKind::Argument, "internal: Node-API call failed with status " + std::to_string(static_cast<int>(status)));
}

// ---- tensors ------------------------------------------------------------------------------------------------------------

// What one JavaScript Tensor object owns.
struct TensorBox {
    at::Tensor tensor;
    c10::StorageImpl* storage = nullptr;  // the storage whose bytes were reported to V8, null where none were
    int32_t scope = -1;                   // index in State::scopes, -1 outside every scope
    uint32_t slot = 0;                    // position in that scope
    bool disposed = false;
};

// Where the boxes live. A pointer unwrapped from a JavaScript object is trusted only if it is one of these: other addons wrap objects
// too. Chunks are never given back, so an address inside one can never be another addon's, and the check is two comparisons.
class BoxPool {
public:
    TensorBox* make();
    void free(TensorBox* box);
    // The box at that address, or nullptr when there is none.
    TensorBox* find(void* address) const;
    template <class Each>
    void eachLive(Each each) const {
        for (char* chunk : chunks_)
            for (size_t i = 0; i < kPerChunk; ++i) {
                auto* slot = reinterpret_cast<Slot*>(chunk) + i;
                if (slot->used) each(&slot->box);
            }
    }

private:
    struct Slot {
        union {
            TensorBox box;
            Slot* next;
        };
        bool used;
    };
    static constexpr size_t kChunkBytes = size_t{1} << 18;
    static constexpr size_t kPerChunk = kChunkBytes / sizeof(Slot);
    std::vector<char*> chunks_;  // aligned to their size, in the order of their addresses
    Slot* free_ = nullptr;
};

struct GeneratorBox {
    at::Generator generator;
};

struct Reported {
    uint32_t handles = 0;
    int64_t bytes = 0;
};

struct State {
    napi_env env = nullptr;
    napi_ref tensorClass = nullptr;
    napi_ref errorClasses[static_cast<size_t>(ErrorKind::Count)] = {};
    std::vector<std::vector<TensorBox*>> scopes;
    BoxPool boxes;
    std::unordered_set<void*> generators;
    std::unordered_map<c10::StorageImpl*, Reported> reportedStorages;
    uint64_t created = 0;
    uint64_t liveHandles = 0;
    bool timing = false;
    uint64_t calls = 0;
    uint64_t nanoseconds = 0;
};

State& state();

// A scope that C++ opens around JavaScript it calls: handles made inside are freed at its end.
class Scope {
public:
    Scope();
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

private:
    size_t around_;
};

// Makes a JavaScript Tensor of `tensor`, in the innermost scope; null where the tensor is undefined.
napi_value wrapTensor(napi_env env, at::Tensor tensor);
// The box behind a JavaScript value, or nullptr when it is not a Tensor.
TensorBox* boxOf(napi_env env, napi_value value);
// The same where the value's type is known already.
TensorBox* boxOf(napi_env env, napi_value value, napi_valuetype type);
// The tensor behind a JavaScript value; throws when it is something else or disposed. `what` names it in the message.
at::Tensor& tensorOf(napi_env env, napi_value value, const char* what);
GeneratorBox* generatorOf(napi_env env, napi_value value);

// ---- values -------------------------------------------------------------------------------------------------------------

enum class Kind {
    Tensor, TensorList, OptionalTensorList, Scalar, ScalarList, Int, IntList, Float, FloatList, Bool, BoolList, String, StringList,
    DType, Layout, MemoryFormat, Device, Generator, Unsupported
};

struct ArgumentSpec {
    std::string name;
    std::string type;   // as the schema prints it
    Kind kind = Kind::Unsupported;
    bool optional = false;
    int32_t fixedLength = 0;  // int[2] takes a single number for both
    bool hasDefault = false;
    c10::IValue defaultValue;
};

ArgumentSpec specOf(const c10::Argument& argument);
c10::IValue toIValue(napi_env env, napi_value value, const ArgumentSpec& spec);
napi_value toJs(napi_env env, const c10::IValue& value);
// One argument in words, for error messages: `float32[2, 3]`, `"abc"`, `[1, 2]`.
std::string describe(napi_env env, napi_value value);
// A JavaScript value's kind in words ("a Tensor", "a function", "1.5"), for "got ..." in messages.
std::string kindOf(napi_env env, napi_value value);

std::string utf8(napi_env env, napi_value value);
double number(napi_env env, napi_value value, const char* what);
int64_t integer(napi_env env, napi_value value, const char* what);
bool boolean(napi_env env, napi_value value, const char* what);
napi_value makeString(napi_env env, const std::string& text);
napi_value makeNumber(napi_env env, double value);
napi_value makeBool(napi_env env, bool value);
std::vector<at::Tensor> tensorList(napi_env env, napi_value value, const char* what, bool allowNull);
std::vector<int64_t> intList(napi_env env, napi_value value, const char* what);

const char* dtypeName(at::ScalarType type);
bool dtypeFromName(const std::string& name, at::ScalarType& type);
// A device that this library works on, from its name; throws an ArgumentError for others.
c10::Device deviceFromName(const std::string& name);

// ---- operators ----------------------------------------------------------------------------------------------------------

// Why an operator cannot be called from JavaScript, or nullptr when it can.
const char* refusalOf(const c10::FunctionSchema& schema);

// Checks the arguments on a stack that an operator's kernel takes for granted; throws an ArgumentError.
using Guard = void (*)(const std::vector<ArgumentSpec>& specs, const std::vector<c10::IValue>& stack);
// The guard of an operator (its name without overload), or nullptr when its kernel checks enough itself.
Guard guardOf(const std::string& name);

// ---- functions the module exports ---------------------------------------------------------------------------------------

using Callback = napi_value (*)(napi_env, napi_callback_info);

// Every exported function runs inside this guard: no C++ exception ever reaches Node.
template <napi_value (*F)(napi_env, size_t, napi_value*)>
napi_value guarded(napi_env env, napi_callback_info info) {
    constexpr size_t limit = 64;
    size_t argc = limit;
    napi_value argv[limit];
    try {
        check(napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr));
        if (argc > limit) badArgument("at most 63 arguments can be given, got " + std::to_string(argc));
        napi_value undefined;
        check(napi_get_undefined(env, &undefined));
        // Functions read the arguments they declare without counting: what was not given is undefined.
        for (size_t i = argc; i < 8; ++i) argv[i] = undefined;
        napi_value result = F(env, argc, argv);
        return result ? result : undefined;
    } catch (...) {
        throwCurrent(env, {});
        return nullptr;
    }
}

void addFunction(napi_env env, napi_value exports, const char* name, Callback callback);
void exportTensors(napi_env env, napi_value exports);
void exportOperators(napi_env env, napi_value exports);
void exportAutograd(napi_env env, napi_value exports);
void exportCheckpoint(napi_env env, napi_value exports);
void exportRuntime(napi_env env, napi_value exports);
void exportAllocator(napi_env env, napi_value exports);
void exportMatmul(napi_env env, napi_value exports);

}  // namespace tessera
