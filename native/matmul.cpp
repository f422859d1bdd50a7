// Products of matrices where libtorch leaves the processor idle. In float32 MKL takes its AVX2 paths on AMD, at half the speed of full-width vectors
// where there is AVX-512 (where there is not they are as fast as ours), and without MKL any BLAS may be there. In bfloat16 libtorch multiplies number
// by number where there is no AVX-512: here such matrices are multiplied in float32 too (matmul_float.cpp). Where an AMD processor multiplies bfloat16
// itself it is matmul_half.cpp.
// They replace libtorch's kernels of mm, addmm and bmm in the dispatcher, so that whatever multiplies gets them; what does not suit them goes where
// it went before.
#include "fused.h"
#include "matmul.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/bmm_cpu_dispatch.h>
#include <ATen/ops/mm_cpu_dispatch.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <type_traits>

namespace tessera {

namespace {

using at::Tensor;
using kernels::Bf16;

std::atomic<bool> wanted{true};

// A matrix of `t`, of which the last two dimensions are one; false where neither its rows nor its columns are contiguous.
template <class T>
bool matrixOf(const Tensor& t, Matrix<T>& m) {
    m = {static_cast<const T*>(data(t)), t.stride(-2), t.stride(-1)};
    return m.column == 1 || m.row == 1;
}

// c [m][n] = a b + bias [n].
void product(int64_t m, int64_t n, int64_t depth, const Matrix<float>& a, const Matrix<float>& b, float* c, const float* bias) {
    multiplyInFloat(m, n, depth, a, b, c, false, bias);
}
void product(int64_t m, int64_t n, int64_t depth, const Matrix<Bf16>& a, const Matrix<Bf16>& b, Bf16* c, const float* bias) {
    if (kernels::table().widensHalves) multiplyInFloat(m, n, depth, a, b, c, false, bias);
    else multiplyHalves(m, n, depth, a, b, c, bias);
}

template <class T>
bool isOf(const Tensor& t) {
    return isValue(t) && t.scalar_type() == (std::is_same_v<T, Bf16> ? at::kBFloat16 : at::kFloat);
}

// Whether products are made here: in float32, and in bfloat16.
template <class T>
bool isNeeded() {
#if defined(__x86_64__) && defined(__GNUC__)
    const auto& table = kernels::table();
    const bool amd = __builtin_cpu_is("amd");
    if (std::is_same_v<T, Bf16>) return table.widensHalves || (table.multiplyPairs && amd);
    return table.strip && (!at::hasMKL() || (amd && __builtin_cpu_supports("avx512f")));
#else
    return false;
#endif
}

template <class T>
bool isMadeHere() {
    return isNeeded<T>() && wanted.load(std::memory_order_relaxed);
}

// Whether a product of that size is faster here.
bool paysInFloat(int64_t rows, int64_t depth, int64_t columns) {
    return rows >= 2 * kernels::table().stripRows && rows * depth * columns >= 1 << 22;  // otherwise packing is most of the work
}
bool paysWidened(int64_t rows, int64_t depth, int64_t columns) { return rows * depth * columns >= 1 << 12; }
// Of few rows packing is too much of the work, of a short depth what a strip begins and ends with. What is small is made here all the same:
// libtorch needs 80 microseconds for anything.
bool paysInPairs(int64_t rows, int64_t depth, int64_t columns) {
    return depth % 2 == 0 && depth >= 64 && rows * depth * columns >= 1 << 16 && (rows >= 384 || depth * columns < 1 << 18);
}

// Whether a product is made here, and of what.
template <class T>
bool suits(const Tensor& a, const Tensor& b, int64_t dims, Matrix<T>& left, Matrix<T>& right) {
    constexpr bool half = std::is_same_v<T, Bf16>;
    if (!isMadeHere<T>() || !isOf<T>(a) || !isOf<T>(b)) return false;
    if (a.dim() != dims || b.dim() != dims || a.size(-1) != b.size(-2)) return false;
    const auto pays = !half ? paysInFloat : kernels::table().widensHalves ? paysWidened : paysInPairs;
    return pays(a.size(-2), a.size(-1), b.size(-1)) && matrixOf(a, left) && matrixOf(b, right) && (!half || left.column == 1);
}

// bfloat16 matrices with what must be contiguous: the rows of the left one, rows or columns of the right one. Libtorch's way is too slow for any.
Tensor arranged(const Tensor& t, bool left) {
    if (!kernels::table().widensHalves || !isMadeHere<Bf16>() || !isOf<Bf16>(t) || t.dim() < 2) return t;
    return t.stride(-1) == 1 || (!left && t.stride(-2) == 1) ? t : t.contiguous();
}

template <class T>
bool mm(const Tensor& a, const Tensor& b, Tensor& c) {
    Matrix<T> left, right;
    if (!suits(a, b, 2, left, right)) return false;
    c = at::empty({a.size(0), b.size(1)}, a.options());
    product(a.size(0), b.size(1), a.size(1), left, right, static_cast<T*>(data(c)), nullptr);
    return true;
}

template <class T>
bool addmm(const Tensor& bias, const Tensor& a, const Tensor& b, Tensor& c) {
    Matrix<T> left, right;
    if (!isOf<T>(bias) || !suits(a, b, 2, left, right)) return false;
    const int64_t m = a.size(0), n = b.size(1);
    if (bias.dim() == 1 && bias.size(0) == n) {
        const Tensor wide = bias.to(at::kFloat).contiguous();
        c = at::empty({m, n}, a.options());
        product(m, n, a.size(1), left, right, static_cast<T*>(data(c)), floats(wide));
        return true;
    }
    if constexpr (std::is_same_v<T, Bf16>) return false;
    else {
        c = bias.expand({m, n}).clone(at::MemoryFormat::Contiguous);
        multiplyInFloat(m, n, a.size(1), left, right, floats(c), true, nullptr);
        return true;
    }
}

template <class T>
bool bmm(const Tensor& a, const Tensor& b, Tensor& c) {
    Matrix<T> left, right;
    if (a.dim() != 3 || b.dim() != 3 || a.size(0) != b.size(0) || !suits(a, b, 3, left, right)) return false;
    const int64_t count = a.size(0), m = a.size(1), n = b.size(2);
    c = at::empty({count, m, n}, a.options());
    const auto some = [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            product(m, n, a.size(2), Matrix<T>{left.data + i * a.stride(0), left.row, left.column}, Matrix<T>{right.data + i * b.stride(0), right.row, right.column},
                    static_cast<T*>(data(c)) + i * m * n, nullptr);
    };
    // Inside a thread of its own a product stays on it.
    if (count >= at::get_num_threads()) at::parallel_for(0, count, 1, some);
    else some(0, count);
    return true;
}

Tensor mmHere(const Tensor& a, const Tensor& b) {
    Tensor c;
    const Tensor left = arranged(a, true), right = arranged(b, false);
    return mm<float>(left, right, c) || mm<Bf16>(left, right, c) ? c : at::cpu::mm(a, b);
}

Tensor addmmHere(const Tensor& bias, const Tensor& a, const Tensor& b, const at::Scalar& beta, const at::Scalar& alpha) {
    Tensor c;
    if (!beta.equal(1) || !alpha.equal(1)) return at::cpu::addmm(bias, a, b, beta, alpha);
    const Tensor left = arranged(a, true), right = arranged(b, false);
    return addmm<float>(bias, left, right, c) || addmm<Bf16>(bias, left, right, c) ? c : at::cpu::addmm(bias, a, b, beta, alpha);
}

Tensor bmmHere(const Tensor& a, const Tensor& b) {
    Tensor c;
    const Tensor left = arranged(a, true), right = arranged(b, false);
    return bmm<float>(left, right, c) || bmm<Bf16>(left, right, c) ? c : at::cpu::bmm(a, b);
}

// libtorch warns of a kernel that replaces another.
struct Silent : c10::WarningHandler {
#if TESSERA_TORCH_AT_LEAST(2, 0)
    using Guard = c10::WarningUtils::WarningHandlerGuard;
    void process(const c10::Warning&) override {}
#else
    using Guard = c10::Warning::WarningHandlerGuard;
    void process(const c10::SourceLocation&, const std::string&, const bool) override {}
#endif
};

napi_value useOwnProducts(napi_env env, size_t, napi_value* argv) {
    wanted = boolean(env, argv[0], "on");
    return nullptr;
}

napi_value widensHalves(napi_env env, size_t, napi_value*) { return makeBool(env, kernels::table().widensHalves); }

napi_value hasOwnProducts(napi_env env, size_t, napi_value* argv) {
    return makeBool(env, boolean(env, argv[0], "half") ? isNeeded<Bf16>() : isNeeded<float>());
}

}  // namespace

void exportMatmul(napi_env env, napi_value exports) {
    addFunction(env, exports, "useOwnProducts", guarded<useOwnProducts>);
    addFunction(env, exports, "hasOwnProducts", guarded<hasOwnProducts>);
    addFunction(env, exports, "widensHalves", guarded<widensHalves>);
    static torch::Library* library = [] {
        torch::Library* made = nullptr;
        if (!isNeeded<float>() && !isNeeded<Bf16>()) return made;
        Silent silent;
        Silent::Guard guard(&silent);
        made = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);  // never destroyed
        made->impl("mm", mmHere);
        made->impl("addmm", addmmHere);
        made->impl("bmm", bmmHere);
        return made;
    }();
    static_cast<void>(library);
}

}  // namespace tessera
