// Tensor handles: who owns them, in which scope they live, and how their numbers come in and go out.
#include "bridge.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace tessera {

State& state() {
    static State* instance = new State;  // never destroyed: finalizers may run after static destructors
    return *instance;
}

namespace {

// Bytes are reported to V8 only for handles that no scope owns: those are the ones that only garbage collection can free, and V8 must know
// their weight to collect in time. What a scope owns is freed at its end; reporting it would make V8 collect for nothing at every step.
void report(TensorBox* box) {
    if (box->storage || box->disposed || !box->tensor.defined() || !box->tensor.has_storage()) return;
    State& s = state();
    box->storage = box->tensor.storage().unsafeGetStorageImpl();
    Reported& entry = s.reportedStorages[box->storage];
    if (entry.handles++ == 0) {
        entry.bytes = static_cast<int64_t>(box->tensor.storage().nbytes());
        int64_t total;
        napi_adjust_external_memory(s.env, entry.bytes, &total);
    }
}

void unreport(TensorBox* box) {
    if (!box->storage) return;
    State& s = state();
    auto found = s.reportedStorages.find(box->storage);
    if (found != s.reportedStorages.end() && --found->second.handles == 0) {
        int64_t total;
        napi_adjust_external_memory(s.env, -found->second.bytes, &total);
        s.reportedStorages.erase(found);
    }
    box->storage = nullptr;
}

void leaveScope(TensorBox* box) {
    if (box->scope < 0) return;
    auto& list = state().scopes[static_cast<size_t>(box->scope)];
    TensorBox* last = list.back();
    list[box->slot] = last;
    last->slot = box->slot;
    list.pop_back();
    box->scope = -1;
}

void enterScope(TensorBox* box, int32_t scope) {
    if (scope < 0) {
        report(box);
        return;
    }
    auto& list = state().scopes[static_cast<size_t>(scope)];
    box->scope = scope;
    box->slot = static_cast<uint32_t>(list.size());
    list.push_back(box);
}

void release(TensorBox* box) {
    if (box->disposed) return;
    unreport(box);
    box->disposed = true;
    box->tensor.reset();
    state().liveHandles--;
}

void finalizeTensor(node_api_basic_env, void* data, void*) {
    auto* box = static_cast<TensorBox*>(data);
    leaveScope(box);
    release(box);
    state().boxes.free(box);
}

void finalizeGenerator(node_api_basic_env, void* data, void*) {
    state().generators.erase(data);
    delete static_cast<GeneratorBox*>(data);
}

napi_value setClasses(napi_env env, size_t, napi_value* argv) {
    State& s = state();
    check(napi_create_reference(env, argv[0], 1, &s.tensorClass));
    for (size_t i = 0; i < static_cast<size_t>(ErrorKind::Count); ++i) {
        napi_value each;
        check(napi_get_element(env, argv[1], static_cast<uint32_t>(i), &each));
        check(napi_create_reference(env, each, 1, &s.errorClasses[i]));
    }
    return nullptr;
}

// Frees what the innermost scope owns.
void endInnermostScope() {
    State& s = state();
    // Move the list out first: freeing a tensor can run destructors that touch no scope, but keep the state simple all the same.
    std::vector<TensorBox*> list = std::move(s.scopes.back());
    s.scopes.pop_back();
    for (TensorBox* box : list) {
        box->scope = -1;
        release(box);
    }
}

napi_value scopeBegin(napi_env env, size_t, napi_value*) {
    state().scopes.emplace_back();
    return makeNumber(env, static_cast<double>(state().scopes.size()));
}

// scopeEnd(depth, kept): ends the innermost scope, which must be the depth-th; the Tensors in `kept` move to the one around it.
napi_value scopeEnd(napi_env env, size_t, napi_value* argv) {
    State& s = state();
    int64_t depth = integer(env, argv[0], "depth");
    if (depth < 1 || depth != static_cast<int64_t>(s.scopes.size()))
        fail(ErrorKind::Scope, "scopes must end in the reverse order of their beginning: scope " + std::to_string(depth) + " was ended while " +
                                   std::to_string(s.scopes.size()) + " were open");
    const auto current = static_cast<int32_t>(s.scopes.size()) - 1;
    bool isArray = false;
    check(napi_is_array(env, argv[1], &isArray));
    std::vector<TensorBox*> kept;
    if (isArray) {
        uint32_t length;
        check(napi_get_array_length(env, argv[1], &length));
        for (uint32_t i = 0; i < length; ++i) {
            napi_value each;
            check(napi_get_element(env, argv[1], i, &each));
            if (TensorBox* box = boxOf(env, each)) kept.push_back(box);
        }
    }
    if (depth != static_cast<int64_t>(s.scopes.size())) fail(ErrorKind::Scope, "a scope was begun or ended while another one was ending");
    for (TensorBox* box : kept) {
        if (box->scope != current) continue;  // it lives outside already
        leaveScope(box);
        enterScope(box, current - 1);
    }
    endInnermostScope();
    return nullptr;
}

napi_value keep(napi_env env, size_t, napi_value* argv) {
    tensorOf(env, argv[0], "keep");
    TensorBox* box = boxOf(env, argv[0]);
    leaveScope(box);
    report(box);
    return argv[0];
}

napi_value dispose(napi_env env, size_t, napi_value* argv) {
    TensorBox* box = boxOf(env, argv[0]);
    if (!box) badArgument("dispose expects a Tensor, got " + kindOf(env, argv[0]));
    leaveScope(box);
    release(box);
    return nullptr;
}

napi_value isDisposed(napi_env env, size_t, napi_value* argv) {
    TensorBox* box = boxOf(env, argv[0]);
    if (!box) badArgument("isDisposed expects a Tensor, got " + kindOf(env, argv[0]));
    return makeBool(env, box->disposed);
}

napi_value isTensor(napi_env env, size_t, napi_value* argv) { return makeBool(env, boxOf(env, argv[0]) != nullptr); }

// alias(t): a second handle on the same tensor, living in the innermost scope.
napi_value alias(napi_env env, size_t, napi_value* argv) { return wrapTensor(env, tensorOf(env, argv[0], "alias")); }

napi_value shape(napi_env env, size_t, napi_value* argv) {
    at::Tensor& tensor = tensorOf(env, argv[0], "shape");
    napi_value out;
    check(napi_create_array_with_length(env, static_cast<size_t>(tensor.dim()), &out));
    for (int64_t i = 0; i < tensor.dim(); ++i)
        check(napi_set_element(env, out, static_cast<uint32_t>(i), makeNumber(env, static_cast<double>(tensor.size(i)))));
    return out;
}

napi_value stride(napi_env env, size_t, napi_value* argv) {
    at::Tensor& tensor = tensorOf(env, argv[0], "stride");
    if (tensor.layout() != at::kStrided) badArgument("stride expects a strided tensor");
    napi_value out;
    check(napi_create_array_with_length(env, static_cast<size_t>(tensor.dim()), &out));
    for (int64_t i = 0; i < tensor.dim(); ++i)
        check(napi_set_element(env, out, static_cast<uint32_t>(i), makeNumber(env, static_cast<double>(tensor.stride(i)))));
    return out;
}

napi_value numel(napi_env env, size_t, napi_value* argv) {
    return makeNumber(env, static_cast<double>(tensorOf(env, argv[0], "numel").numel()));
}

napi_value dtype(napi_env env, size_t, napi_value* argv) { return makeString(env, dtypeName(tensorOf(env, argv[0], "dtype").scalar_type())); }

napi_value device(napi_env env, size_t, napi_value* argv) { return makeString(env, tensorOf(env, argv[0], "device").device().str()); }

napi_value isContiguous(napi_env env, size_t, napi_value* argv) {
    return makeBool(env, tensorOf(env, argv[0], "isContiguous").is_contiguous());
}

// Identity of the memory behind a tensor, so that tests can tell views from copies.
napi_value dataPointer(napi_env env, size_t, napi_value* argv) {
    at::Tensor& tensor = tensorOf(env, argv[0], "dataPointer");
    napi_value out;
    uint64_t address = tensor.has_storage() ? reinterpret_cast<uint64_t>(tensor.data_ptr()) : 0;
    check(napi_create_bigint_uint64(env, address, &out));
    return out;
}

struct Bytes {
    uint8_t* data = nullptr;
    size_t length = 0;
};

// The memory behind a typed array (over an ArrayBuffer or a SharedArrayBuffer) or a DataView.
Bytes bytesOf(napi_env env, napi_value value, const char* what) {
    bool typed = false;
    check(napi_is_typedarray(env, value, &typed));
    if (!typed) badArgument(std::string(what) + " must be a typed array, got " + kindOf(env, value));
    auto type = static_cast<napi_typedarray_type>(-1);  // a newer Node may know types that this bridge does not
    size_t count = 0, offset = 0;
    void* data = nullptr;
    napi_value buffer;
    check(napi_get_typedarray_info(env, value, &type, &count, &data, &buffer, &offset));
    size_t width = 0;
    switch (type) {
        case napi_int8_array:
        case napi_uint8_array:
        case napi_uint8_clamped_array: width = 1; break;
        case napi_int16_array:
        case napi_uint16_array: width = 2; break;
        case napi_int32_array:
        case napi_uint32_array:
        case napi_float32_array: width = 4; break;
        case napi_float64_array:
        case napi_bigint64_array:
        case napi_biguint64_array: width = 8; break;
        default: badArgument(std::string(what) + " is a typed array of a kind that has no dtype");
    }
    return {static_cast<uint8_t*>(data), count * width};
}

// fromBytes(typedArray, shape, dtype): one copy, into memory that torch owns. The bytes are taken as they are.
napi_value fromBytes(napi_env env, size_t, napi_value* argv) {
    // The shape first: reading an array can run getters, and those could detach the data.
    std::vector<int64_t> sizes = intList(env, argv[1], "shape");
    at::ScalarType type;
    std::string name = utf8(env, argv[2]);
    if (!dtypeFromName(name, type)) badArgument("unknown dtype \"" + name + "\"");
    uint64_t expected = c10::elementSize(type);
    for (int64_t size : sizes) {
        if (size < 0) badArgument("shape must not be negative, got " + describe(env, argv[1]));
        if (size != 0 && expected > INT64_MAX / static_cast<uint64_t>(size)) badArgument("shape " + describe(env, argv[1]) + " is too large");
        expected *= static_cast<uint64_t>(size);
    }
    Bytes bytes = bytesOf(env, argv[0], "data");
    if (expected != bytes.length)
        badArgument("shape " + describe(env, argv[1]) + " of " + name + " needs " + std::to_string(expected) + " bytes, the data has " +
                    std::to_string(bytes.length));
    at::Tensor tensor = at::empty(sizes, at::TensorOptions().dtype(type));
    auto* target = static_cast<uint8_t*>(tensor.data_ptr());
    if (type == at::kBool) {
        // A C++ bool that is neither 0 nor 1 is undefined behaviour in every kernel that reads it.
        for (size_t i = 0; i < bytes.length; ++i) target[i] = bytes.data[i] != 0;
    } else if (bytes.length > 0) {
        std::memcpy(target, bytes.data, bytes.length);
    }
    return wrapTensor(env, std::move(tensor));
}

// copyBytes(tensor, typedArray): the tensor's elements in row-major order into memory the caller owns.
napi_value copyBytes(napi_env env, size_t, napi_value* argv) {
    at::Tensor tensor = tensorOf(env, argv[0], "tensor").detach();
    if (tensor.layout() != at::kStrided) badArgument("only strided tensors can be read");
    tensor = tensor.to(at::kCPU).resolve_conj().resolve_neg().contiguous();
    Bytes bytes = bytesOf(env, argv[1], "target");
    if (tensor.nbytes() != bytes.length)
        badArgument("the tensor has " + std::to_string(tensor.nbytes()) + " bytes, the target " + std::to_string(bytes.length));
    if (bytes.length > 0) std::memcpy(bytes.data, tensor.data_ptr(), bytes.length);
    return nullptr;
}

napi_value memoryStats(napi_env env, size_t, napi_value*) {
    State& s = state();
    std::unordered_set<c10::StorageImpl*> storages;
    double bytes = 0;
    s.boxes.eachLive([&](TensorBox* box) {
        if (box->disposed || !box->tensor.has_storage()) return;
        auto* storage = box->tensor.storage().unsafeGetStorageImpl();
        if (storages.insert(storage).second) bytes += static_cast<double>(box->tensor.storage().nbytes());
    });
    napi_value out;
    check(napi_create_object(env, &out));
    check(napi_set_named_property(env, out, "handles", makeNumber(env, static_cast<double>(s.liveHandles))));
    check(napi_set_named_property(env, out, "bytes", makeNumber(env, bytes)));
    check(napi_set_named_property(env, out, "storages", makeNumber(env, static_cast<double>(storages.size()))));
    check(napi_set_named_property(env, out, "created", makeNumber(env, static_cast<double>(s.created))));
    check(napi_set_named_property(env, out, "scopes", makeNumber(env, static_cast<double>(s.scopes.size()))));
    double reported = 0;
    for (const auto& entry : s.reportedStorages) reported += static_cast<double>(entry.second.bytes);
    check(napi_set_named_property(env, out, "reportedBytes", makeNumber(env, reported)));
    return out;
}

// attachGenerator(object, device): makes `object` a generator of that device.
napi_value attachGenerator(napi_env env, size_t, napi_value* argv) {
    c10::Device on = deviceFromName(utf8(env, argv[1]));
    auto box = std::make_unique<GeneratorBox>();
    box->generator = at::globalContext().defaultGenerator(on).clone();
    check(napi_wrap(env, argv[0], box.get(), finalizeGenerator, nullptr, nullptr));
    state().generators.insert(box.get());
    box.release();
    return nullptr;
}

}  // namespace

Scope::Scope() : around_(state().scopes.size()) { state().scopes.emplace_back(); }

Scope::~Scope() {
    while (state().scopes.size() > around_) endInnermostScope();
}

napi_value wrapTensor(napi_env env, at::Tensor tensor) {
    napi_value out;
    if (!tensor.defined()) {
        check(napi_get_null(env, &out));
        return out;
    }
    State& s = state();
    napi_value constructor;
    check(napi_get_reference_value(env, s.tensorClass, &constructor));
    check(napi_new_instance(env, constructor, 0, nullptr, &out));
    TensorBox* box = s.boxes.make();
    if (napi_status status = napi_wrap(env, out, box, finalizeTensor, nullptr, nullptr); status != napi_ok) {
        s.boxes.free(box);
        check(status);
    }
    box->tensor = std::move(tensor);
    s.created++;
    s.liveHandles++;
    enterScope(box, static_cast<int32_t>(s.scopes.size()) - 1);
    return out;
}

TensorBox* boxOf(napi_env env, napi_value value, napi_valuetype type) {
    if (type != napi_object) return nullptr;
    void* data = nullptr;
    if (napi_unwrap(env, value, &data) != napi_ok) return nullptr;
    return state().boxes.find(data);
}

TensorBox* boxOf(napi_env env, napi_value value) {
    napi_valuetype type;
    check(napi_typeof(env, value, &type));
    return boxOf(env, value, type);
}

TensorBox* BoxPool::make() {
    if (!free_) {
        auto* chunk = static_cast<char*>(std::aligned_alloc(kChunkBytes, kChunkBytes));
        if (!chunk) throw std::bad_alloc();
        chunks_.insert(std::upper_bound(chunks_.begin(), chunks_.end(), chunk), chunk);
        for (size_t i = kPerChunk; i-- > 0;) {
            auto* slot = reinterpret_cast<Slot*>(chunk) + i;
            slot->used = false;
            slot->next = free_;
            free_ = slot;
        }
    }
    Slot* slot = free_;
    free_ = slot->next;
    slot->used = true;
    return new (&slot->box) TensorBox;
}

void BoxPool::free(TensorBox* box) {
    auto* slot = reinterpret_cast<Slot*>(box);
    box->~TensorBox();
    slot->used = false;
    slot->next = free_;
    free_ = slot;
}

TensorBox* BoxPool::find(void* address) const {
    auto* at = static_cast<char*>(address);
    auto above = std::upper_bound(chunks_.begin(), chunks_.end(), at);
    if (above == chunks_.begin()) return nullptr;
    const auto offset = static_cast<size_t>(at - *(above - 1));
    if (offset >= kPerChunk * sizeof(Slot) || offset % sizeof(Slot) != 0) return nullptr;
    auto* slot = reinterpret_cast<Slot*>(at);
    return slot->used ? &slot->box : nullptr;
}

at::Tensor& tensorOf(napi_env env, napi_value value, const char* what) {
    TensorBox* box = boxOf(env, value);
    if (!box) badArgument(std::string(what) + " expects a Tensor, got " + kindOf(env, value));
    if (box->disposed)
        fail(ErrorKind::Disposed, std::string(what) + ": this Tensor was disposed, by dispose() or at the end of its scope; return it from tidy() or keep() it to use it later");
    return box->tensor;
}

GeneratorBox* generatorOf(napi_env env, napi_value value) {
    napi_valuetype type;
    check(napi_typeof(env, value, &type));
    if (type != napi_object) return nullptr;
    void* data = nullptr;
    if (napi_unwrap(env, value, &data) != napi_ok || !data) return nullptr;
    return state().generators.count(data) ? static_cast<GeneratorBox*>(data) : nullptr;
}

void exportTensors(napi_env env, napi_value exports) {
    addFunction(env, exports, "setClasses", guarded<setClasses>);
    addFunction(env, exports, "scopeBegin", guarded<scopeBegin>);
    addFunction(env, exports, "scopeEnd", guarded<scopeEnd>);
    addFunction(env, exports, "keep", guarded<keep>);
    addFunction(env, exports, "dispose", guarded<dispose>);
    addFunction(env, exports, "isDisposed", guarded<isDisposed>);
    addFunction(env, exports, "isTensor", guarded<isTensor>);
    addFunction(env, exports, "alias", guarded<alias>);
    addFunction(env, exports, "shape", guarded<shape>);
    addFunction(env, exports, "stride", guarded<stride>);
    addFunction(env, exports, "numel", guarded<numel>);
    addFunction(env, exports, "dtype", guarded<dtype>);
    addFunction(env, exports, "device", guarded<device>);
    addFunction(env, exports, "isContiguous", guarded<isContiguous>);
    addFunction(env, exports, "dataPointer", guarded<dataPointer>);
    addFunction(env, exports, "fromBytes", guarded<fromBytes>);
    addFunction(env, exports, "copyBytes", guarded<copyBytes>);
    addFunction(env, exports, "memoryStats", guarded<memoryStats>);
    addFunction(env, exports, "attachGenerator", guarded<attachGenerator>);
}

}  // namespace tessera
