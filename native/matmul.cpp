// Products of matrices where libtorch leaves the processor idle. In float32 MKL takes its AVX2 paths on AMD, at half the speed of full-width vectors
// where there is AVX-512 (where there is not they are as fast as ours), and without MKL any BLAS may be there. In bfloat16 libtorch multiplies number
// by number where there is no AVX-512: here such matrices are widened as they are packed, and multiplied in float32. Where the processor multiplies
// bfloat16 itself it is matmul_half.cpp.
// Blocked as by Goto and van de Geijn (2008): the right matrix is packed in panels as wide as the micro-kernel, the left one is read as it is, or
// packed where its rows are far apart. They replace libtorch's kernels of mm, addmm and bmm in the dispatcher, so that whatever multiplies gets
// them; what does not suit them goes where it went before.
#include "fused.h"
#include "matmul.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/bmm_cpu_dispatch.h>
#include <ATen/ops/mm_cpu_dispatch.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cstring>
#include <type_traits>

namespace tessera {

namespace {

using at::Tensor;
using kernels::Bf16;
using kernels::kTileApart;
using kernels::kTileDepth;
using kernels::kTileRows;

constexpr int64_t kStretch = 4 * kTileDepth;  // of a float32 right matrix that is packed at a time
constexpr int64_t kLeast = 1 << 22;           // multiplications in float32; below, and of few rows, packing is most of the work
constexpr int64_t kLeastHalf = 1 << 12;       // the same in bfloat16, widened
constexpr int64_t kLeastPairs = 1 << 16;      // and in pairs

std::atomic<bool> wanted{true};

// A matrix of `t`, of which the last two dimensions are one; false where neither its rows nor its columns are contiguous.
template <class T>
bool matrixOf(const Tensor& t, Matrix<T>& m) {
    m = {static_cast<const T*>(data(t)), t.stride(-2), t.stride(-1)};
    return m.column == 1 || m.row == 1;
}

// `depth` rows of a panel of so many columns, zeros behind them.
template <class T>
void packPanel(const Matrix<T>& b, int64_t from, int64_t depth, int64_t column, int64_t columns, float* to) {
    const auto& table = kernels::table();
    const T* start = b.data + from * b.row + column * b.column;
    if (b.column != 1) return table.transposePanel[std::is_same_v<T, Bf16>](start, b.column, depth, columns, to);
    for (int64_t k = 0; k < depth; ++k, to += table.panelColumns) {
        if constexpr (std::is_same_v<T, Bf16>) table.widen(start + k * b.row, columns, to);
        else std::memcpy(to, start + k * b.row, columns * sizeof(float));
        std::fill(to + columns, to + table.panelColumns, 0.0f);
    }
}

// Rows of the left matrix whose columns are contiguous, in strips: [strip][depth][rows of one].
void packStrips(const Matrix<float>& a, int64_t row, int64_t rows, int64_t from, int64_t depth, float* to) {
    const int64_t strip = kernels::table().stripRows;
    for (int64_t k = 0; k < depth; ++k) {
        const float* column = a.data + (from + k) * a.column + row;
        for (int64_t r = 0; r < rows; r += strip) std::memcpy(to + r * depth + k * strip, column + r, std::min(strip, rows - r) * sizeof(float));
    }
}

// Part of the left matrix as the micro-kernel reads it. `memory` holds kTileRows * (kTileDepth + kTileApart) numbers where it is packed.
struct Left {
    const float* data;
    int64_t stride;
    bool packed;
};
Left leftPart(const Matrix<float>& a, int64_t row, int64_t rows, int64_t from, int64_t depth, float* memory) {
    if (a.column == 1) return {a.data + row * a.row + from, a.row, false};
    packStrips(a, row, rows, from, depth, memory);
    return {memory, depth, true};
}
Left leftPart(const Matrix<Bf16>& a, int64_t row, int64_t rows, int64_t from, int64_t depth, float* memory) {
    constexpr int64_t stride = kTileDepth + kTileApart;
    for (int64_t r = 0; r < rows; ++r) kernels::table().widen(a.data + (row + r) * a.row + from, depth, memory + r * stride);
    return {memory, stride, false};
}

// c [m][n] = a b + bias [n]. In float32 it is added to what c holds, where `add`; in bfloat16 the columns of `a` must not be the contiguous ones.
template <class T>
void multiply(int64_t m, int64_t n, int64_t depth, const Matrix<T>& a, const Matrix<T>& b, T* c, bool add, const float* bias) {
    constexpr bool half = std::is_same_v<T, Bf16>;
    const auto& table = kernels::table();
    const int64_t width = table.panelColumns, step = table.stripRows, stretch = half ? depth : std::min(depth, kStretch);
    const int64_t panels = (n + width - 1) / width, tilesOfRows = (m + kTileRows - 1) / kTileRows;
    // Where there are few rows, threads share the columns.
    const int64_t groups = std::clamp<int64_t>(4 * at::get_num_threads() / tilesOfRows, 1, panels), panelsOfGroup = (panels + groups - 1) / groups;
    const Tensor packed = at::empty({panels * width * stretch}, at::kFloat);
    const bool packs = half || a.column != 1;
    for (int64_t from = 0; from < depth; from += stretch) {
        const int64_t count = std::min(stretch, depth - from);
        const auto panelOf = [&](int64_t panel) { return floats(packed) + panel * width * count; };
        at::parallel_for(0, panels, std::max<int64_t>(1, kNumbersOfPiece / (width * count)), [&](int64_t begin, int64_t end) {
            for (int64_t p = begin; p < end; ++p) packPanel(b, from, count, p * width, std::min(width, n - p * width), panelOf(p));
        });
        at::parallel_for(0, tilesOfRows * groups, 1, [&](int64_t begin, int64_t end) {
            const Tensor left = packs ? at::empty({kTileRows * (kTileDepth + kTileApart)}, at::kFloat) : Tensor();
            const Tensor tileSums = half ? at::empty({kTileRows * panelsOfGroup * width}, at::kFloat) : Tensor();
            for (int64_t tile = begin; tile < end; ++tile) {
                const int64_t row = tile / groups * kTileRows, rows = std::min(kTileRows, m - row), first = tile % groups * panelsOfGroup;
                const int64_t last = std::min(panels, first + panelsOfGroup), column = first * width, columns = std::min(n, last * width) - column;
                if (columns <= 0) continue;
                float* sums;
                int64_t strideC;
                if constexpr (half) sums = floats(tileSums), strideC = columns;
                else sums = c + row * n + column, strideC = n;
                for (int64_t r = 0; bias && from == 0 && r < rows; ++r) std::copy(bias + column, bias + column + columns, sums + r * strideC);
                for (int64_t k = 0; k < count; k += kTileDepth) {
                    const int64_t part = std::min(kTileDepth, count - k);
                    const Left l = leftPart(a, row, rows, from + k, part, floats(left));
                    for (int64_t p = first; p < last; ++p)
                        for (int64_t r = 0; r < rows; r += step)
                            table.strip({part, std::min(step, rows - r), std::min(width, n - p * width), l.data + r * l.stride, l.stride, l.packed,
                                         panelOf(p) + k * width, sums + r * strideC + p * width - column, strideC, add || bias || from + k > 0});
                }
                if constexpr (half)
                    for (int64_t r = 0; r < rows; ++r) table.narrow(sums + r * strideC, columns, c + (row + r) * n + column);
            }
        });
    }
}

// c [m][n] = a b + bias [n].
void product(int64_t m, int64_t n, int64_t depth, const Matrix<float>& a, const Matrix<float>& b, float* c, const float* bias) {
    multiply(m, n, depth, a, b, c, false, bias);
}
void product(int64_t m, int64_t n, int64_t depth, const Matrix<Bf16>& a, const Matrix<Bf16>& b, Bf16* c, const float* bias) {
    if (kernels::table().widensHalves) multiply(m, n, depth, a, b, c, false, bias);
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

// Of few rows packing is too much of the work, of a short depth what a strip begins and ends with. What is small is made here all the same:
// libtorch needs 80 microseconds for anything.
bool suitsHalf(int64_t rows, int64_t depth, int64_t columns) {
    if (kernels::table().widensHalves) return rows * depth * columns >= kLeastHalf;
    return depth % 2 == 0 && depth >= 64 && rows * depth * columns >= kLeastPairs && (rows >= 384 || depth * columns < 1 << 18);
}

// Whether a product is made here, and of what.
template <class T>
bool suits(const Tensor& a, const Tensor& b, int64_t dims, Matrix<T>& left, Matrix<T>& right) {
    constexpr bool half = std::is_same_v<T, Bf16>;
    if (!isMadeHere<T>() || !isOf<T>(a) || !isOf<T>(b)) return false;
    if (a.dim() != dims || b.dim() != dims || a.size(-1) != b.size(-2)) return false;
    const int64_t rows = a.size(-2), work = rows * a.size(-1) * b.size(-1);
    if (half ? !suitsHalf(rows, a.size(-1), b.size(-1)) : rows < 2 * kernels::table().stripRows || work < kLeast) return false;
    return matrixOf(a, left) && matrixOf(b, right) && (!half || left.column == 1);
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
        multiply(m, n, a.size(1), left, right, floats(c), true, nullptr);
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
