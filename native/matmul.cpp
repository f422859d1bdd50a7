// Products of float32 matrices for processors whose AVX-512 libtorch's BLAS leaves idle: MKL takes its AVX2 paths on AMD, at half the speed of
// full-width vectors. Blocked as by Goto and van de Geijn (2008): the right matrix is packed in panels as wide as the micro-kernel, the left
// one is read as it is, or packed where its rows are far apart. They replace libtorch's kernels of mm, addmm and bmm in the dispatcher, so that
// whatever multiplies gets them; what does not suit them goes where it went before. The same in bfloat16 was no faster than oneDNN's products.
#include "fused.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/bmm_cpu_dispatch.h>
#include <ATen/ops/mm_cpu_dispatch.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cstring>

namespace tessera {

namespace {

using at::Tensor;
using kernels::kPanel;
using kernels::kStrip;

constexpr int64_t kRowsOfTile = 12 * kStrip;  // with kDepth of them in a core's own cache
constexpr int64_t kDepth = 384;               // of both matrices at a time: a panel of the right one is in the first cache or the second
constexpr int64_t kStretch = 4 * kDepth;      // of the right matrix that is packed at a time
constexpr int64_t kLeast = 1 << 22;           // multiplications; below, and of few rows, packing is most of the work

std::atomic<bool> wanted{true};

/** A matrix whose rows or columns are contiguous: element (r, c) is at r * row + c * column, and one of them is 1. */
struct Matrix {
    const float* data;
    int64_t row, column;
};

// A matrix of `t`, of which the last two dimensions are one; false where neither its rows nor its columns are contiguous.
bool matrixOf(const Tensor& t, Matrix& m) {
    m = {floats(t), t.stride(-2), t.stride(-1)};
    return m.column == 1 || m.row == 1;
}

// `depth` rows of a panel of up to kPanel columns, zeros behind them.
void packPanel(const Matrix& b, int64_t from, int64_t depth, int64_t column, int64_t columns, float* to) {
    const float* start = b.data + from * b.row + column * b.column;
    if (b.column != 1) return kernels::table().transposePanel(start, b.column, depth, columns, to);
    for (int64_t k = 0; k < depth; ++k, to += kPanel) {
        std::memcpy(to, start + k * b.row, columns * sizeof(float));
        std::fill(to + columns, to + kPanel, 0.0f);
    }
}

// Rows of the left matrix whose columns are contiguous, in strips of kStrip: [strip][depth][kStrip].
void packStrips(const Matrix& a, int64_t row, int64_t rows, int64_t from, int64_t depth, float* to) {
    for (int64_t k = 0; k < depth; ++k) {
        const float* column = a.data + (from + k) * a.column + row;
        for (int64_t r = 0; r < rows; r += kStrip) std::memcpy(to + r * depth + k * kStrip, column + r, std::min(kStrip, rows - r) * sizeof(float));
    }
}

// c [m][n] = a b, or c + a b.
void multiply(int64_t m, int64_t n, int64_t depth, const Matrix& a, const Matrix& b, float* c, bool add) {
    const auto run = kernels::table().strip;
    const int64_t panels = (n + kPanel - 1) / kPanel, stretch = std::min(depth, kStretch), tilesOfRows = (m + kRowsOfTile - 1) / kRowsOfTile;
    // Where there are few rows, threads share the columns.
    const int64_t groups = std::clamp<int64_t>(4 * at::get_num_threads() / tilesOfRows, 1, panels), panelsOfGroup = (panels + groups - 1) / groups;
    const Tensor packed = at::empty({panels * kPanel * stretch}, at::kFloat);
    const bool packs = a.column != 1;
    for (int64_t from = 0; from < depth; from += stretch) {
        const int64_t count = std::min(stretch, depth - from);
        const auto panelOf = [&](int64_t panel) { return floats(packed) + panel * kPanel * count; };
        at::parallel_for(0, panels, std::max<int64_t>(1, kNumbersOfPiece / (kPanel * count)), [&](int64_t begin, int64_t end) {
            for (int64_t p = begin; p < end; ++p) packPanel(b, from, count, p * kPanel, std::min(kPanel, n - p * kPanel), panelOf(p));
        });
        at::parallel_for(0, tilesOfRows * groups, 1, [&](int64_t begin, int64_t end) {
            const Tensor strips = packs ? at::empty({kRowsOfTile * kDepth}, at::kFloat) : Tensor();
            for (int64_t tile = begin; tile < end; ++tile) {
                const int64_t row = tile / groups * kRowsOfTile, rows = std::min(kRowsOfTile, m - row), first = tile % groups * panelsOfGroup;
                for (int64_t k = 0; k < count; k += kDepth) {
                    const int64_t part = std::min(kDepth, count - k);
                    if (packs) packStrips(a, row, rows, from + k, part, floats(strips));
                    for (int64_t p = first; p < std::min(panels, first + panelsOfGroup); ++p)
                        for (int64_t r = 0; r < rows; r += kStrip) {
                            const float* left = packs ? floats(strips) + r * part : a.data + (row + r) * a.row + from + k;
                            run({part, std::min(kStrip, rows - r), std::min(kPanel, n - p * kPanel), left, a.row, packs, panelOf(p) + k * kPanel,
                                 c + (row + r) * n + p * kPanel, n, add || from + k > 0});
                        }
                }
            }
        });
    }
}

// Whether a product is made here, and of what.
bool suits(const Tensor& a, const Tensor& b, int64_t dims, Matrix& left, Matrix& right) {
    if (!wanted.load(std::memory_order_relaxed) || !isFloat(a) || !isFloat(b)) return false;
    if (a.dim() != dims || b.dim() != dims || a.size(-1) != b.size(-2)) return false;
    if (a.size(-2) < 2 * kStrip || a.size(-2) * a.size(-1) * b.size(-1) < kLeast) return false;
    return matrixOf(a, left) && matrixOf(b, right);
}

Tensor mm(const Tensor& a, const Tensor& b) {
    Matrix left, right;
    if (!suits(a, b, 2, left, right)) return at::cpu::mm(a, b);
    const Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
    multiply(a.size(0), b.size(1), a.size(1), left, right, floats(c), false);
    return c;
}

Tensor addmm(const Tensor& bias, const Tensor& a, const Tensor& b, const at::Scalar& beta, const at::Scalar& alpha) {
    Matrix left, right;
    if (!suits(a, b, 2, left, right) || !isFloat(bias) || !beta.equal(1) || !alpha.equal(1)) return at::cpu::addmm(bias, a, b, beta, alpha);
    const Tensor c = bias.expand({a.size(0), b.size(1)}).clone(at::MemoryFormat::Contiguous);
    multiply(a.size(0), b.size(1), a.size(1), left, right, floats(c), true);
    return c;
}

Tensor bmm(const Tensor& a, const Tensor& b) {
    Matrix left, right;
    if (!suits(a, b, 3, left, right) || a.size(0) != b.size(0)) return at::cpu::bmm(a, b);
    const int64_t count = a.size(0), m = a.size(1), n = b.size(2);
    const Tensor c = at::empty({count, m, n}, a.options());
    const auto some = [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            multiply(m, n, a.size(2), {left.data + i * a.stride(0), left.row, left.column}, {right.data + i * b.stride(0), right.row, right.column},
                     floats(c) + i * m * n, false);
    };
    // Inside a thread of its own a product stays on it.
    if (count >= at::get_num_threads()) at::parallel_for(0, count, 1, some);
    else some(0, count);
    return c;
}

// Where libtorch's own products leave half of the processor idle.
bool isNeeded() {
#if defined(__x86_64__) && defined(__GNUC__)
    return kernels::table().strip && (__builtin_cpu_is("amd") || !at::hasMKL());
#else
    return false;
#endif
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

napi_value hasOwnProducts(napi_env env, size_t, napi_value*) { return makeBool(env, isNeeded()); }

}  // namespace

void exportMatmul(napi_env env, napi_value exports) {
    addFunction(env, exports, "useOwnProducts", guarded<useOwnProducts>);
    addFunction(env, exports, "hasOwnProducts", guarded<hasOwnProducts>);
    static torch::Library* library = [] {
        torch::Library* made = nullptr;
        if (!isNeeded()) return made;
        Silent silent;
        Silent::Guard guard(&silent);
        made = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);  // never destroyed
        made->impl("mm", mm);
        made->impl("addmm", addmm);
        made->impl("bmm", bmm);
        return made;
    }();
    static_cast<void>(library);
}

}  // namespace tessera
