// Products on the micro-kernel for float32, of float32 matrices and of bfloat16 ones, which are widened as they are packed. Blocked as by Goto and
// van de Geijn (2008): the right matrix is packed in panels as wide as the micro-kernel, the left one is read as it is, or packed where its rows are
// far apart.
#include "fused.h"
#include "matmul.h"

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

}  // namespace

template <class T>
void multiplyInFloat(int64_t m, int64_t n, int64_t depth, const Matrix<T>& a, const Matrix<T>& b, T* c, bool add, const float* bias) {
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
        // Some rows and the panels [first, last): `sums` has the first one's first column. `memory` is leftPart's.
        const auto multiplyTile = [&](int64_t row, int64_t rows, int64_t first, int64_t last, float* memory, float* sums, int64_t strideC) {
            for (int64_t k = 0; k < count; k += kTileDepth) {
                const int64_t part = std::min(kTileDepth, count - k);
                const Left l = leftPart(a, row, rows, from + k, part, memory);
                for (int64_t p = first; p < last; ++p)
                    for (int64_t r = 0; r < rows; r += step)
                        table.strip({part, std::min(step, rows - r), std::min(width, n - p * width), l.data + r * l.stride, l.stride, l.packed,
                                     panelOf(p) + k * width, sums + r * strideC + (p - first) * width, strideC, add || bias || from + k > 0});
            }
        };
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
                multiplyTile(row, rows, first, last, floats(left), sums, strideC);
                if constexpr (half)
                    for (int64_t r = 0; r < rows; ++r) table.narrow(sums + r * strideC, columns, c + (row + r) * n + column);
            }
        });
    }
}

template void multiplyInFloat(int64_t, int64_t, int64_t, const Matrix<float>&, const Matrix<float>&, float*, bool, const float*);
template void multiplyInFloat(int64_t, int64_t, int64_t, const Matrix<Bf16>&, const Matrix<Bf16>&, Bf16*, bool, const float*);

}  // namespace tessera
