// Products of bfloat16 matrices on a micro-kernel that multiplies pairs of numbers. The right matrix is packed: two neighbours along the depth side
// by side, in panels of columns. The left one has such pairs in its rows and is read as it is.
#include "fused.h"
#include "matmul.h"
#include "products.h"

namespace tessera {

namespace {

using kernels::Bf16;
using kernels::kPairColumns;

constexpr int64_t kStrips = 24;         // shares of rows are whole strips of the micro-kernel
constexpr int64_t kRows = 96;           // of the left matrix, that stay in a core's own cache while panels pass by
constexpr int64_t kDepth = 1536;        // of a panel, that stays there too
constexpr int64_t kOfThread = 1 << 22;  // multiplications that are worth one

/** The right matrix in panels: [depth / 2][columns of one, rounded to 16]. */
struct Panels {
    Matrix<Bf16> from;
    int64_t n, depth;

    int64_t count() const { return (n + kPairColumns - 1) / kPairColumns; }
    int64_t columns(int64_t panel) const { return std::min(kPairColumns, n - panel * kPairColumns); }
    int64_t width(int64_t panel) const { return rounded(columns(panel), 16); }
    // From one to the next; transposePairs writes so much.
    int64_t apart() const { return kPairColumns * rounded(depth, 32) / 2; }

    void pack(int64_t panel, uint32_t* to) const {
        const auto& k = kernels::table();
        const Bf16* start = from.data + panel * kPairColumns * from.column;
        if (from.column == 1) k.pairRows(start, from.row, depth, columns(panel), depth, to);
        else k.transposePairs(start, from.column, columns(panel), depth, width(panel), to, nullptr);
    }
};

}  // namespace

void multiplyHalves(int64_t m, int64_t n, int64_t depth, const Matrix<Bf16>& a, const Matrix<Bf16>& b, Bf16* c, const float* bias) {
    const auto& k = kernels::table();
    const Panels panels{b, n, depth};
    Scratch all(4 * panels.count() * panels.apart());
    uint32_t* packed = all.take<uint32_t>(panels.count() * panels.apart());
    const int64_t threads = std::clamp<int64_t>(m * n * depth / kOfThread, 1, at::get_num_threads());
    at::parallel_for(0, panels.count(), (panels.count() + threads - 1) / threads, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) panels.pack(p, packed + p * panels.apart());
    });
    // Equal shares of the rows: whole tiles would leave one thread with one more. Of few rows threads share the columns too.
    const int64_t shares = std::clamp<int64_t>(m / kRows, 1, threads), rowsOfShare = rounded((m + shares - 1) / shares, kStrips);
    const int64_t groups = std::clamp<int64_t>(threads / shares, 1, panels.count()), panelsOfGroup = (panels.count() + groups - 1) / groups;
    const int64_t parts = (depth + kDepth - 1) / kDepth, longest = rounded((depth + parts - 1) / parts, 32);
    // Some rows and one panel. `sums` holds them where the depth is cut.
    const auto multiplyPanel = [&](int64_t row, int64_t count, int64_t p, float* sums) {
        const int64_t column = p * kPairColumns, width = panels.width(p);
        for (int64_t from = 0; from < depth; from += longest) {
            const int64_t part = std::min(longest, depth - from);
            const bool last = from + part == depth;
            k.multiplyPairs({count, panels.columns(p), part / 2, a.data + row * a.row + from, a.row, packed + p * panels.apart() + from / 2 * width, width,
                             last && bias ? bias + column : nullptr, sums, kPairColumns, from > 0, last ? c + row * n + column : nullptr, n});
        }
    };
    at::parallel_for(0, shares * groups, 1, [&](int64_t begin, int64_t end) {
        Scratch scratch(4 * kRows * kPairColumns);
        float* sums = scratch.take<float>(kRows * kPairColumns);
        for (int64_t each = begin; each < end; ++each) {
            const int64_t lastRow = std::min(m, (each / groups + 1) * rowsOfShare);
            const int64_t first = each % groups * panelsOfGroup, lastPanel = std::min(panels.count(), first + panelsOfGroup);
            for (int64_t row = each / groups * rowsOfShare; row < lastRow; row += kRows)
                for (int64_t p = first; p < lastPanel; ++p) multiplyPanel(row, std::min(kRows, lastRow - row), p, sums);
        }
    });
}

}  // namespace tessera
